"""One result in three forms, each of which must carry every fact of a finding."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from kvmtools.compare.rules import RULES
from kvmtools.errors import UsageError
from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.records import Registers
from kvmtools.report import FORMATS, render, rules_text, rules_to_dict, summary, to_dict
from kvmtools.show.style import examined

FINDING = Finding(
    subject="slot 17",
    expected="an empty PTE (pkmap_count is 0)",
    observed="PTE 0x8000000012345163",
    rule="pkmap.pte-matches-count",
    virtual=0xFF61_1000,
    physical=0x2A_7088,
    pfn=0x12345,
    symbol="pkmap_count[17]",
    raw=0x8000_0000_1234_5163,
    next="kvmtools vtop 0xff611000",
)
BROKEN = Outcome(
    "pkmap.pte-matches-count", "a slot's PTE is empty exactly if its count is 0", "mm/highmem.c, 6.1",
    Status.DISCREPANCY, (FINDING,), 1, (), (), 512, "slots",
)  # fmt: skip
SOUND = Outcome(
    "zones.spans", "zones lie where they must", "init.c, 6.1", Status.AGREE, examined=4, unit="zones"
)
IDLE = Outcome(
    "memmap.node", "node is 0", "mm.h, 6.1", Status.SKIPPED, unit="pages", reason="this kernel has one node"
)
RESULT = Result(
    outcomes=(BROKEN, SOUND, IDLE),
    kernel={"release": "Linux version 6.1", "paging": ["PAE", "NX"]},
    registers=(Registers(cpu=0, eip=0xC101_0000, cr0=0x8005_0033, cr3=0x120_C000, cr4=0x3506B0, efer=0x800),),
)
CLEAN = replace(RESULT, outcomes=(SOUND, IDLE))
EMPTY = replace(RESULT, outcomes=(IDLE,))


def case(root: ElementTree.Element, name: str) -> ElementTree.Element:
    found = root.find(f".//testcase[@name='{name}']")
    assert found is not None
    return found


def test_text_tells_all_about_a_finding() -> None:
    text = render(RESULT)
    for fact in (
        BROKEN.rule, BROKEN.truth, BROKEN.source, "slot 17", "virtual 0xff611000", "physical 0x2a7088", "pfn 0x12345",
        "pkmap_count[17]", FINDING.expected, FINDING.observed, "0x8000000012345163", FINDING.next,
    ):  # fmt: skip
        assert fact in text
    assert "memmap.node" in text
    assert "this kernel has one node" in text
    assert "cr3 0x120c000" in text
    assert text.splitlines()[-1].startswith(
        "✗ differs from the model; 3 rules: 1 agree, 1 broken (1 discrepancy), 1 skipped"
    )


def test_text_lists_what_agrees_only_when_asked() -> None:
    assert "zones.spans" not in render(RESULT)
    assert "✓ zones.spans  4 zones" in render(RESULT, verbose=True)


def test_a_pfn_that_is_the_subject_is_not_said_twice() -> None:
    finding = replace(FINDING, subject="pfn 0x12345")
    text = render(replace(RESULT, outcomes=(replace(BROKEN, findings=(finding,)),)))
    assert text.count("pfn 0x12345") == 1


def test_colour_only_when_asked() -> None:
    assert "\x1b[" not in render(RESULT)
    coloured = render(RESULT, color=True)
    assert "\x1b[31;1m" in coloured


def test_many_findings_are_cut_short_and_counted() -> None:
    findings = tuple(replace(FINDING, subject=f"slot {number}") for number in range(30))
    text = render(replace(RESULT, outcomes=(replace(BROKEN, findings=findings, total=4000),)))
    assert "slot 9," in text
    assert "slot 10," not in text
    assert "and 3,990 more" in text
    assert "4,000 discrepancies in 512 slots" in text


def test_what_could_not_be_judged_is_shown() -> None:
    unsettled = replace(IDLE, reason="kmap_lock held in every sample", unsettled=(FINDING,))
    text = render(replace(RESULT, outcomes=(unsettled,)))
    assert "kmap_lock held in every sample" in text
    assert FINDING.observed in text


@pytest.mark.parametrize(
    ("result", "code", "verdict"),
    [(RESULT, 1, "discrepancy"), (CLEAN, 0, "agree"), (EMPTY, 5, "inconclusive")],
)
def test_verdicts(result: Result, code: int, verdict: str) -> None:
    assert result.exit_code == code
    assert to_dict(result)["verdict"] == verdict
    assert to_dict(result)["exit_code"] == code


def test_json_tells_all_about_a_finding() -> None:
    document = json.loads(render(RESULT, "json"))
    assert document["schema"] == "kvmtools/1"
    assert document["rules"] == {"agree": 1, "discrepancy": 1, "skipped": 1}
    (finding,) = document["outcomes"][0]["findings"]
    assert finding == {
        "rule": "pkmap.pte-matches-count",
        "subject": "slot 17",
        "virtual": "0xff611000",
        "physical": "0x2a7088",
        "pfn": "0x12345",
        "raw": "0x8000000012345163",
        "symbol": "pkmap_count[17]",
        "expected": FINDING.expected,
        "observed": FINDING.observed,
        "next": FINDING.next,
    }
    assert document["outcomes"][2]["reason"] == "this kernel has one node"
    assert document["registers"][0]["cr3"] == "0x120c000"


def test_json_of_one_snapshot_is_the_same_twice() -> None:
    assert render(RESULT, "json") == render(replace(RESULT), "json")
    assert "live" not in to_dict(RESULT)
    assert to_dict(replace(RESULT, live={"paused_ms": 12.5}))["live"] == {"paused_ms": 12.5}


def test_junit_has_a_case_for_every_rule() -> None:
    root = ElementTree.fromstring(render(RESULT, "junit"))
    suite = root.find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")} == {
        "tests": "3",
        "failures": "1",
        "skipped": "1",
        "errors": "0",
    }
    failure = case(root, "pte-matches-count").find("failure")
    assert failure is not None
    assert FINDING.observed in (failure.text or "")
    assert case(root, "spans").find("failure") is None
    skipped = case(root, "node").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "this kernel has one node"


def test_junit_says_how_many_findings_are_not_listed() -> None:
    for total, last in ((1, FINDING.next), (4001, "and 4,000 more, not listed")):
        cut = replace(RESULT, outcomes=(replace(BROKEN, total=total),))
        failure = case(ElementTree.fromstring(render(cut, "junit")), "pte-matches-count").find("failure")
        assert failure is not None
        assert (failure.text or "").splitlines()[-1].endswith(last)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="no format is called 'yaml'") as error:
        render(RESULT, "yaml")
    assert all(form in error.value.hint for form in FORMATS)


@pytest.mark.parametrize(
    ("state", "last"),
    [
        ("it is still booting: SYSTEM_BOOTING", "it is still booting"),
        ("it has panicked: no init", "it has panicked"),
    ],
)
def test_a_kernel_that_does_not_just_run_agrees_with_a_reservation(state: str, last: str) -> None:
    said = replace(CLEAN, kernel={**CLEAN.kernel, "state": state}).summary
    assert said.startswith("agrees with the model; 2 rules: 1 agree, 1 skipped")
    assert said.endswith(f"; {last}")


def test_a_panic_is_told_once() -> None:
    panicked = replace(
        CLEAN, kernel={**CLEAN.kernel, "state": "it has panicked: no init"}, live={"panic": "no init"}
    )
    assert render(panicked).count("no init") == 1
    assert render(replace(panicked, kernel=CLEAN.kernel)).count("no init") == 1


def test_summary_has_a_line_per_guest() -> None:
    lines = summary({"pae": RESULT, "nopae": CLEAN}).splitlines()
    assert lines[0].startswith("pae    ✗ differs")
    assert lines[1].startswith("nopae  ✓ agrees")
    assert "\x1b[" in summary({"pae": CLEAN}, color=True)


def test_samples_and_transients_are_told() -> None:
    assert "3 samples, 2 transients gone on a second look" in render(replace(CLEAN, samples=3, transients=2))
    assert "sample" not in render(CLEAN)


def test_rules_text_tells_every_rule() -> None:
    text = rules_text(RULES)
    words = " ".join(text.split())
    for rule in RULES:
        assert f"\n{rule.id}\n" in f"\n{text}\n"
        assert " ".join(rule.truth.split()) in words
        assert " ".join(rule.exceptions.split()) in words
    assert max(map(len, text.splitlines())) <= 110
    assert [each["rule"] for each in rules_to_dict(RULES)] == [rule.id for rule in RULES]


def test_consequences_are_counted_apart() -> None:
    explained = replace(SOUND, consequences=(FINDING, FINDING), consequences_total=2)
    text = render(replace(RESULT, outcomes=(BROKEN, explained)), verbose=True)
    assert "1 broken (1 discrepancy, which explains 2 more)" in text
    assert "(2 discrepancies explained by a finding above)" in text


def test_a_core_does_not_record_every_register() -> None:
    of_a_core = replace(RESULT, registers=(replace(RESULT.registers[0], efer=None),))
    text = render(of_a_core)
    assert "cr4 0x3506b0" in text
    assert "efer" not in text
    (registers,) = json.loads(render(of_a_core, "json"))["registers"]
    assert (registers["cr3"], "efer" in registers) == ("0x120c000", False)
    assert render(of_a_core, "junit")


def test_a_finding_lists_what_it_explains() -> None:
    elsewhere = replace(FINDING, rule="zones.spans", subject="zone NORMAL", touches=("slot 17",))
    other = replace(FINDING, rule="zones.spans", subject="zone DMA")
    broken = replace(SOUND, consequences=(elsewhere, other), consequences_total=150)
    result = replace(RESULT, outcomes=(BROKEN, broken))
    lines = render(result).splitlines()
    (explains,) = [line for line in lines if "explains  " in line]
    assert explains.split() == ["explains", "zones.spans:", "zone", "NORMAL"]
    assert "zone DMA" not in render(result)
    document = to_dict(result)
    assert (document["findings_total"], document["consequences_total"]) == (1, 150)
    assert document["outcomes"][1]["consequences_total"] == 150


def test_labels_do_not_run_into_what_they_name() -> None:
    text = render(
        replace(RESULT, live={"consistency": "read while the guest ran", "pause_milliseconds": 1.5})
    )
    assert "consistency  read while" in text
    assert "pause        1.5 milliseconds" in text


def test_a_core_is_named_everywhere() -> None:
    result = replace(RESULT, core="some/core: 2 vCPUs")
    for form in FORMATS:
        assert "some/core: 2 vCPUs" in render(result, form)
    assert "core" not in to_dict(RESULT)


@pytest.mark.parametrize(
    ("number", "unit", "said"),
    [
        (1, "words", "1 word"),
        (1, "hash entries", "1 hash entry"),
        (1, "slots in use", "1 slot in use"),
        (1, "leaves and pages", "1 leaf and page"),
        (1, "address spaces", "1 address space"),
        (2000, "PTEs", "2,000 PTEs"),
    ],
)
def test_one_is_singular(number: int, unit: str, said: str) -> None:
    assert examined(number, unit) == said


def test_nobody_is_sent_to_a_paper_that_they_do_not_have() -> None:
    assert "FACTS E" not in rules_text(RULES)
    assert all("invariants" not in rule for rule in rules_to_dict(RULES))
