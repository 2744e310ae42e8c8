"""The report on a real guest, recorded: from memory to text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from breaks.pkmap import pte_cleared
from recorded_guest import load

from kvmtools.report import render

BROKEN = """
from breaks.buddy import block_inside_block, list_cut
from breaks.pkmap import used_slot_forgotten
from recorded_guest import load
from kvmtools.report import FORMATS, render
guest = load("pae")
for do in (list_cut, block_inside_block, used_slot_forgotten):
    do(guest)
result = guest.check()
assert result.consequences_total
for form in FORMATS:
    print(render(result, form, verbose=True))
"""


def test_two_reports_on_one_snapshot_are_the_same() -> None:
    """By two interpreters that order sets of text otherwise: within one, they would always agree."""
    reports = [
        subprocess.run(
            [sys.executable, "-c", BROKEN],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert len(reports[0]) > 10_000
    assert reports[0] == reports[1] == reports[2]


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
    text = render(result)
    assert "kernel    Linux version 6.1" in text
    assert f"maps virtual {finding['virtual']}, PTE at physical {finding['physical']}" in text
    kernel = json.loads(render(result, "json"))["kernel"]
    assert " ".join(kernel) == "release build_id era paging slide ram_pages max_low_pfn max_pfn"
    assert kernel["era"] == "6.1"
    assert "era       6.1\n" in text
    assert kernel["paging"] == ["non-PAE", "FLATMEM"]
    assert f"memory    {kernel['ram_pages']:,} pages of RAM, max_low_pfn {kernel['max_low_pfn']}" in text
