"""A result as SARIF 2.1.0, for services that show findings beside the source: GitHub's code scanning and others.

A result of SARIF is a finding that counts.  It is located where the kernel declares what is wrong, from the root of
its source (``%SRCROOT%``); the place in the guest is a logical location and stands among its ``properties``, with all
else that is known.  What was skipped is a notification, and so are findings
that are counted and not listed.  Nothing in the document depends on the time or the host.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0 plus Errata 01.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from kvmtools import __version__
from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.report.document import finding_to_dict
from kvmtools.report.explanations import explanations
from kvmtools.report.heading import heading
from kvmtools.report.source_places import source_place
from kvmtools.report.text import finding_lines
from kvmtools.show.printable import printable

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "%SRCROOT%"
_NUMBER = re.compile(r"\b(?:0x[0-9a-f]+|[0-9]+)\b")


def to_sarif(result: Result) -> str:
    """A log with one run."""
    explained = explanations(result)
    run: dict[str, Any] = {
        "tool": {"driver": _driver(result)},
        "invocations": [_invocation(result)],
        "originalUriBaseIds": {_ROOT: {"description": {"text": "the root of the kernel's source"}}},
        "results": [
            _result(number, outcome, finding, explained.get(finding, []), result)
            for number, outcome in enumerate(result.outcomes)
            for finding in outcome.findings
        ],
        "columnKind": "utf16CodeUnits",
        "properties": {"verdict": result.summary, **heading(result)},
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _driver(result: Result) -> dict[str, Any]:
    return {
        "name": "kvmtools",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(outcome) for outcome in result.outcomes],
    }


def _rule(outcome: Outcome) -> dict[str, Any]:
    truth = f"{outcome.truth[:1].upper()}{outcome.truth[1:]}."
    return {
        "id": outcome.rule,
        "shortDescription": {"text": truth},
        "fullDescription": {"text": f"{truth} Source: {outcome.source}."},
        "help": {"text": f"{truth}\n\nSource: {outcome.source}\n\nkvmtools rules {outcome.rule}"},
        "defaultConfiguration": {"level": "error"},
    }


def _invocation(result: Result) -> dict[str, Any]:
    """How the run ended: a discrepancy is an answer, and no failure of the tool."""
    return {
        "executionSuccessful": True,
        "exitCode": result.exit_code,
        "toolExecutionNotifications": [
            _notification(number, outcome, lines)
            for number, outcome in enumerate(result.outcomes)
            if (lines := _noted(outcome))
        ],
    }


def _noted(outcome: Outcome) -> list[str]:
    """What there is to say of a rule beside its results."""
    if outcome.status is Status.SKIPPED:
        unsettled = [f"{one.subject}: {one.observed}, expected {one.expected}" for one in outcome.unsettled]
        return [f"{outcome.rule} was skipped: {outcome.reason}", *unsettled]
    if more := outcome.total - len(outcome.findings):
        return [f"{outcome.rule}: {more:,} more, not listed"]
    return []


def _notification(number: int, outcome: Outcome, lines: list[str]) -> dict[str, Any]:
    return {
        "level": "warning" if outcome.unsettled else "note",
        "message": {"text": "\n".join(map(printable, lines))},
        "associatedRule": {"id": outcome.rule, "index": number},
    }


def _result(
    number: int, outcome: Outcome, finding: Finding, explained: list[Finding], result: Result
) -> dict[str, Any]:
    lines = [f"{finding.subject}: {finding.observed}, expected {finding.expected}", *finding_lines(finding)]
    lines += [f"explains {one.rule}: {one.subject}" for one in explained]
    return {
        "ruleId": outcome.rule,
        "ruleIndex": number,
        "level": "error",
        "message": {"text": "\n".join(map(printable, lines))},
        "locations": [_location(outcome, finding, result)],
        "partialFingerprints": {
            "primaryLocationLineHash": _fingerprint(finding)
        },  # the one that GitHub reads
        "properties": finding_to_dict(finding),
    }


def _location(outcome: Outcome, finding: Finding, result: Result) -> dict[str, Any]:
    """Where it is in the source, and where in the guest."""
    location: dict[str, Any] = {
        "logicalLocations": [
            {
                "name": printable(finding.subject),
                "fullyQualifiedName": printable(finding.symbol or finding.subject),
                "kind": "data",
            }
        ]
    }
    if place := source_place(outcome, result):
        physical: dict[str, Any] = {"artifactLocation": {"uri": place.file, "uriBaseId": _ROOT}}
        if place.line is not None:
            physical["region"] = {"startLine": place.line}
        location["physicalLocation"] = physical
    return location


def _fingerprint(finding: Finding) -> str:
    """The same of one kind of fault in two boots, which have it at other addresses, in other slots, pages or orders."""
    kind = (finding.rule, _NUMBER.sub("N", finding.subject))
    return hashlib.sha256("\0".join(kind).encode(errors="surrogatepass")).hexdigest()
