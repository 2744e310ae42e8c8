"""The rule about kmap_local's entries on kernels that keep none, and where the page tables do not come so far."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from breaks.pkmap import first_entry_moved
from recorded_guest import RecordedGuest, exchanged

from kvmtools.compare.engine import check
from kvmtools.findings import Outcome
from kvmtools.observe.observed import Observed


def judged(seen: Observed) -> Outcome:
    (outcome,) = check(seen, only=["kmap-local.entries"]).outcomes
    return outcome


def test_every_slot_is_looked_at(recorded: RecordedGuest) -> None:
    outcome = judged(recorded.observe())
    assert (outcome.examined, outcome.total) == (4 * 16, 0)


def test_one_pointer_is_one_finding(recorded: RecordedGuest) -> None:
    kept = recorded.observe().kmap_local.entries_physical.tolist()
    first_entry_moved(recorded)
    (finding,) = judged(recorded.observe()).findings
    assert finding.expected == f"its entry at physical {kept[0]:#x}"
    assert finding.observed == f"the kernel keeps it at physical {kept[1]:#x}; so it is with 64 of 64 slots"
    assert (finding.physical, finding.symbol) == (kept[1], "slot 0 of CPU 0")


def test_before_its_first_use_there_is_nothing_to_look_at(recorded: RecordedGuest) -> None:
    recorded.write(recorded.healthy.address("__kmap_pte"), 0)
    reason = judged(recorded.observe()).reason
    assert reason == "no slot of kmap_local_page() was used since the kernel booted"


def test_a_kernel_without_slots(recorded: RecordedGuest) -> None:
    seen = recorded.observe()
    without = exchanged(seen, configuration=replace(seen.configuration, kmap_fixed_addresses=None))
    assert "no slots for kmap_local_page()" in judged(without).reason


def test_page_tables_that_do_not_come_so_far(recorded: RecordedGuest) -> None:
    seen = recorded.observe()
    tables = seen.walk.tables
    level = np.where(tables.virtual < 0xFF80_0000, tables.level, 2).astype(np.uint8)
    torn = exchanged(seen, walk=replace(seen.walk, tables=replace(tables, level=level)))
    (finding,) = judged(torn).findings
    assert finding.expected == "no entry: no page table leads there"
