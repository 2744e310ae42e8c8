"""The HTML page without a browser: valid, self-contained, linked both ways, and whatever a guest says is text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import html5lib
import pytest
from hostile_text import ALL, HOSTILE
from opened_kernel import session_of
from recorded_guest import load
from surveys import broken, enormous, healthy, hostile
from whole_memory import WholeMemory

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.errors import UsageError
from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.report.page import to_html
from kvmtools.show.printable import printable
from kvmtools.survey import Survey

SCRIPT = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
XHTML = "{http://www.w3.org/1999/xhtml}"


def tree(text: str) -> ElementTree.Element:
    """The document, which must be valid to a parser that forgives nothing."""
    parser = html5lib.HTMLParser(strict=True)
    root: ElementTree.Element = parser.parse(text)
    return root


def elements(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (each for each in root.iter() if str(each.tag).rpartition("}")[2] == name)


def anchors(root: ElementTree.Element) -> list[str]:
    return [value for each in root.iter() if (value := each.get("id"))]


def data_of(root: ElementTree.Element) -> dict[str, Any]:
    (text,) = (each.text for each in elements(root, "script") if each.get("id") == "data")
    document: dict[str, Any] = json.loads(text or "")
    return document


def said(root: ElementTree.Element, anchor: str) -> str:
    (found,) = (each for each in root.iter() if each.get("id") == anchor)
    return " ".join("".join(found.itertext()).split())


PAGES = {
    "pae": healthy,
    "nopae": lambda: healthy("nopae"),
    "numa": lambda: healthy("numa"),
    "broken": broken,
    "hostile": lambda: hostile(ALL + SCRIPT),
    "empty": lambda: Survey(Result(()), "nothing"),
}


@pytest.mark.parametrize("name", PAGES)
def test_it_is_valid_and_loads_nothing(name: str) -> None:
    page = to_html(PAGES[name]())
    root = tree(page)
    ids = anchors(root)
    assert [each for each, times in Counter(ids).items() if times > 1] == []
    links = [each.get("href", "") for each in elements(root, "a")]
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(ids)
    for each in root.iter():
        attributes = {str(key).rpartition("}")[2] for key in each.attrib}
        assert not attributes & {"src", "srcset", "style", "action", "data", "onclick", "onload", "onerror"}
        assert str(each.tag).rpartition("}")[2] not in (
            "link",
            "img",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
        )
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/)", page)


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_names_the_style_and_the_script_and_nothing_else(name: str) -> None:
    root = tree(to_html(PAGES[name]()))
    (policy,) = (each.get("content", "") for each in elements(root, "meta") if each.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    for kind, texts in (
        ("style", [each.text or "" for each in elements(root, "style")]),
        ("script", [each.text or "" for each in elements(root, "script") if each.get("type") is None]),
    ):
        (text,) = texts
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("text", [*HOSTILE, ALL, SCRIPT], ids=ascii)
def test_what_a_guest_says_is_text(text: str) -> None:
    page = to_html(hostile(text))
    root = tree(page)
    assert said(root, "command-line") == " ".join(printable(text).split())
    assert [each.get("type") for each in elements(root, "script")] == ["application/json", None]
    assert list(elements(root, "img")) == []
    assert data_of(root)["space"]["mapped"][0][3].startswith(printable(text))
    assert "49" not in said(root, "command-line")
    plain = page.replace("\n", "")
    assert plain.isprintable()


def test_a_recorded_guest_whose_names_are_markup() -> None:
    """From the bytes in its memory to the page."""
    guest = load("pae")
    (process,) = guest.healthy.observed.processes
    comm = process.task + guest.vmlinux.offset("struct task_struct", "comm")
    row = int(guest.healthy.kernel_walk.rows([comm])[0])
    leaf = guest.healthy.kernel_walk.mapping(row)
    guest.snapshot.patch(leaf.physical + comm - leaf.virtual, b"</p><script>//\0".ljust(16, b"\0"))
    kernel = guest.kernel.with_memory(WholeMemory(guest.snapshot))
    page = to_html(OpenKernel(session_of(guest, kernel, "core <b>")).survey(only=["pkmap"]))
    root = tree(page)
    assert "1 </p><script>//" in said(root, "guest")
    assert [each.get("type") for each in elements(root, "script")] == ["application/json", None]
    assert list(elements(root, "b")) == []


def test_every_finding_leads_to_its_places_and_back() -> None:
    survey = broken()
    root = tree(to_html(survey))
    findings = {name for name in anchors(root) if name.startswith("finding-")}
    assert len(findings) == len(survey.result.findings) >= 6
    data = data_of(root)
    of_space = {f"finding-{number}" for _, number, _ in data["space"]["found"]}
    of_memory = {f"finding-{number}" for _, numbers in data["memory"]["found"] for number in numbers}
    back = of_space | of_memory
    kinds = set()
    for each in root.iter():
        if (href := each.get("href", "")).startswith("#finding-"):
            back.add(href[1:])
    for finding in findings:
        (article,) = (each for each in root.iter() if each.get("id") == finding)
        links = list(elements(article, "a"))
        assert links, finding
        kinds |= {link.get("href", "").partition("-")[0] for link in links}
    assert findings <= back
    assert kinds == {"#slot", "#boundary", "#zone", "#space", "#memory"}


def test_a_slot_that_is_wrong_is_marked_in_the_grid() -> None:
    survey = broken()
    (number,) = {
        int(finding.subject.removeprefix("slot "))
        for finding in survey.result.findings
        if finding.rule == "pkmap.pte-matches-count"
    }
    root = tree(to_html(survey))
    (cell,) = (each for each in root.iter() if each.get("id") == f"slot-{number}")
    assert "found" in cell.get("class", "").split()
    assert f"slot {number}, 0x" in cell.get("aria-label", "")
    assert "pkmap.pte-matches-count" in cell.get("aria-label", "")
    slots = [each for each in elements(root, "td") if each.get("role") == "gridcell"]
    assert len(slots) == 512
    assert [each.get("tabindex") for each in slots].count("0") == 1


def test_a_healthy_guest_has_no_findings_and_all_drawings() -> None:
    root = tree(to_html(healthy("nopae")))
    assert "None: what was compared is as the model says." in said(root, "findings")
    assert set(anchors(root)) >= {"space", "pkmap", "memory", "zones", "guest", "rules", "slot-1023"}
    assert "agrees with the model" in said(root, "verdict")


def test_what_could_not_be_had_is_said() -> None:
    root = tree(
        to_html(replace(healthy(), space=None, pkmap=None, pages=None, zones=(), missing=("no mem_map",)))
    )
    assert "no mem_map" in said(root, "findings")
    assert not set(anchors(root)) & {"space", "pkmap", "memory", "zones"}
    assert data_of(root) == {"space": None, "memory": None}
    assert "Nothing was compared." in said(tree(to_html(Survey(Result(()), "x"))), "findings")


def test_a_guest_of_16_gib_is_at_most_3_mib() -> None:
    page = to_html(enormous()).encode()
    assert len(page) <= 3 << 20
    root = tree(page.decode())
    assert "and 4,194,284 more" in said(root, "findings")
    assert sum(run[0] for run in data_of(root)["memory"]["runs"]) == 16384


def test_two_pages_of_one_survey_are_the_same() -> None:
    assert to_html(broken()) == to_html(broken())


def test_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError) as refused:
        to_html(healthy())
    assert str(refused.value) == "an HTML page needs jinja2 (pip install 'kvmtools[html]')"


AGREES = Outcome("a.b", "truth", "mm/a.c", Status.AGREE)
SKIPPED = Outcome("a.c", "truth", "mm/a.c", Status.SKIPPED, reason="no highmem")
UNSETTLED = Outcome(
    "a.d",
    "truth",
    "mm/a.c",
    Status.SKIPPED,
    reason="kmap_lock was held",
    unsettled=tuple(Finding(f"slot {n}", "empty", "PTE 0x1", rule="a.d") for n in range(12)),
)


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        ((AGREES, SKIPPED), "None: what was compared is as the model says."),
        ((SKIPPED,), "Nothing was compared."),
        ((AGREES, UNSETTLED), "None: what could be judged is as the model says."),
        ((SKIPPED, UNSETTLED), "Nothing could be judged."),
    ],
)
def test_what_could_not_be_judged_is_among_the_findings(outcomes: tuple[Outcome, ...], line: str) -> None:
    findings = said(tree(to_html(Survey(Result(outcomes), "guest"))), "findings")
    assert findings.startswith(f"Findings {line}")
    judged = "Could not be judged a.d: kmap_lock was held slot 0: PTE 0x1, expected empty slot 1: "
    assert (judged in findings) == (UNSETTLED in outcomes)
    assert findings.endswith("and 2 more") == (UNSETTLED in outcomes)
