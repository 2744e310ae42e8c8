"""A result as JSON: addresses as hex strings, units in key names, stable order.

What another run over the same memory would not share (how long the guest was paused) lies under ``live``,
which exists only if there was something live; everything else of two runs over one snapshot is byte for byte
the same.

The keys of a finding: ``subject`` is what is wrong; ``virtual`` the address that is mapped wrong, or of a wrong word;
``physical`` where the wrong entry or word stands (a slot's PTE, or its count where that is wrong); ``symbol`` the wrong
word's name in C; ``raw`` its value; ``pfn`` the page it is about.  ``consequences`` are discrepancies that findings of
other rules explain: ``findings_total`` does not count them, ``consequences_total`` does.
"""

from __future__ import annotations

import json
from typing import Any

from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.records import Registers

SCHEMA = "kvmtools/1"


def to_json(result: Result) -> str:
    """The document as text."""
    return json.dumps({"schema": SCHEMA, "command": "check", **to_dict(result)}, indent=2)


def to_dict(result: Result) -> dict[str, Any]:
    """The document without its head, for one that holds several results."""
    document: dict[str, Any] = {
        "verdict": {0: "agree", 1: "discrepancy", 5: "inconclusive"}[result.exit_code],
        "exit_code": result.exit_code,
        "kernel": result.kernel,
        "registers": [_registers(registers) for registers in result.registers],
        "samples": result.samples,
        "transients": result.transients,
        "rules": {status.value: result.count(status) for status in Status},
        "findings_total": result.total,
        "consequences_total": result.consequences_total,
        "outcomes": [_outcome(outcome) for outcome in result.outcomes],
    }
    if result.core:
        document["core"] = result.core
    if result.live:
        document["live"] = result.live
    return document


def _registers(registers: Registers) -> dict[str, Any]:
    return {"cpu": registers.cpu, **{name: hex(value) for name, value in registers.items()}}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    document: dict[str, Any] = {
        "rule": outcome.rule,
        "status": outcome.status.value,
        "truth": outcome.truth,
        "source": outcome.source,
        "examined": outcome.examined,
        "unit": outcome.unit,
    }
    if outcome.reason:
        document["reason"] = outcome.reason
    if outcome.held:
        document["locks_held"] = list(outcome.held)
    for key in ("findings", "consequences", "unsettled"):
        if found := getattr(outcome, key):
            document[key] = [finding_to_dict(finding) for finding in found]
    if outcome.findings:
        document["findings_total"] = outcome.total
    if outcome.consequences:
        document["consequences_total"] = outcome.consequences_total
    return document


def finding_to_dict(finding: Finding) -> dict[str, Any]:
    """One finding; what is not known of it is left out."""
    document: dict[str, Any] = {"rule": finding.rule, "subject": finding.subject}
    for key in ("virtual", "physical", "pfn", "raw"):
        value: int | None = getattr(finding, key)
        if value is not None:
            document[key] = hex(value)
    if finding.symbol:
        document["symbol"] = finding.symbol
    return document | {"expected": finding.expected, "observed": finding.observed, "next": finding.next}
