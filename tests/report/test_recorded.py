"""The report on a real guest, recorded: from memory to text."""

from __future__ import annotations

import json

from breaks.pkmap import pte_cleared
from recorded_guest import load

from kvmtools.report import render


def test_two_reports_on_one_snapshot_are_the_same() -> None:
    assert [render(load("pae").check(), form) for form in ("text", "json", "junit")] == [
        render(load("pae").check(), form) for form in ("text", "json", "junit")
    ]


def test_a_real_finding_names_its_place() -> None:
    guest = load("nopae")
    subject = pte_cleared(guest)
    number = int(subject.removeprefix("slot "))
    result = guest.check()
    (finding,) = json.loads(render(result, "json"))["outcomes"][
        [outcome.rule for outcome in result.outcomes].index("pkmap.pte-matches-count")
    ]["findings"]
    pkmap = guest.healthy.pkmap
    assert finding["subject"] == subject
    assert finding["virtual"] == hex(guest.healthy.area.address_of(number))
    assert finding["physical"] == hex(pkmap.page_table_physical + 4 * number)
    assert finding["raw"] == "0x0"
    assert "kernel    Linux version 6.1" in render(result)
