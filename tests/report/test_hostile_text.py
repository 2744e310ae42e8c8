"""Whatever the guest calls things: text stays in its line and obeys nothing, XML is well-formed, JSON says it all."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from hostile_result import result
from hostile_text import ALL, HOSTILE, harmless

from kvmtools.report import FORMATS, render, summary
from kvmtools.show.printable import printable


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
