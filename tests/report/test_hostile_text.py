"""Whatever the guest calls things: text stays in its line and obeys nothing, XML is well-formed, JSON says it all."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from hostile_text import ALL, HOSTILE, harmless

from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.report import FORMATS, render, summary
from kvmtools.show.printable import printable


def result(text: str) -> Result:
    """A result in which everything that the guest may have a say in is ``text``."""
    found = Finding(text, text, text, rule="a.b", symbol=text, next=text, touches=("slot 1",))
    parts = {"truth": "truth", "source": "source", "unit": "things", "examined": 1}
    return Result(
        (
            Outcome(rule="a.b", status=Status.DISCREPANCY, findings=(found,), total=1, held=(text,), **parts),
            Outcome(rule="a.c", status=Status.SKIPPED, reason=text, unsettled=(found,), **parts),
            Outcome(rule="a.d", status=Status.AGREE, consequences=(found,), consequences_total=1, **parts),
        ),
        {"release": text, "build_id": text, "era": text, "paging": [text], "slide": text},
        live={"consistency": text},
        core=text,
    )


@pytest.mark.parametrize("text", [*HOSTILE, ALL], ids=ascii)
@pytest.mark.parametrize("form", FORMATS)
def test_nothing_of_it_is_obeyed(form: str, text: str) -> None:
    shown = render(result(text), form, verbose=True)
    assert harmless(shown.replace("\x7f", "")) if form == "json" else harmless(shown)
    assert len(shown.splitlines()) == len(render(result("harmless"), form, verbose=True).splitlines())


@pytest.mark.parametrize("text", [*HOSTILE, ALL], ids=ascii)
def test_colours_are_ours_alone(text: str) -> None:
    plain, coloured = (render(result(text), color=color, verbose=True) for color in (False, True))
    ours = render(result("harmless"), color=True, verbose=True).count("\x1b")
    assert coloured.count("\x1b") == ours
    assert plain.count("\x1b") == 0
    assert harmless(summary({"pae": result(text)}))


@pytest.mark.parametrize("text", [*HOSTILE, ALL], ids=ascii)
def test_junit_is_well_formed_and_says_it_in_escapes(text: str) -> None:
    document = render(result(text), "junit")
    root = ElementTree.fromstring(document.encode())  # as a CI server reads it from a file
    said = [each.get("value") for each in root.iter("property")]
    assert said
    assert set(said) == {printable(text)}
    (skipped,) = root.iter("skipped")
    assert skipped.get("message") == printable(text)
    (failure,) = root.iter("failure")
    assert f"\nexpected  {printable(text)}\nobserved  {printable(text)}\n" in f"{failure.text}"


@pytest.mark.parametrize("text", [*HOSTILE, ALL], ids=ascii)
def test_json_loses_nothing(text: str) -> None:
    document = json.loads(render(result(text), "json"))
    assert document["kernel"]["release"] == text
    assert document["outcomes"][0]["findings"][0]["observed"] == text
