"""Random walks through the buddy allocator's states, on every kind of mem_map, beside the set of pfns that are free.

The oracle (``tests/buddy_oracle.py``) is a set: which pfns are free.  From it follow the free blocks, whether an
allocation can succeed, how large a block it splits and which part of it the caller gets.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from buddies import booted, kind, small
from buddy_oracle import base_of, faults, maximal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvmtools.records import Range, ZoneSpan

MAX_ORDER = 4
RAM = (Range(0, 3), Range(5, 12), Range(14, 25), Range(28, 40))
ZONES = (ZoneSpan("DMA", 0, 8), ZoneSpan("NORMAL", 8, 22), ZoneSpan("HIGHMEM", 22, 40))
"""Blocks are of up to 8 pages, two struct pages share a leaf: a hole of one leaf (12, 13), one that shares both of its
leaves with RAM (3, 4), and the border of two zones within a block, as in any real kernel."""
WORLDS = [
    ("2.4", "flat", False, False),
    ("2.4", "virtual", False, False),
    ("2.6.18", "virtual", True, True),
    ("2.6.24", "sparse", False, False),
    ("2.6.32", "flat", True, False),
    ("5.10", "virtual", True, False),
    ("6.1", "granular", False, True),
    ("6.1", "flat", False, False),
    ("6.12", "sparse", False, True),
    ("7.2", "virtual", True, True),
]
"""Era, kind of map, CONFIG_HOLES_IN_ZONE, CONFIG_DEBUG_VM."""


class Machine(RuleBasedStateMachine):
    """``held`` are the blocks that callers have, ``free`` the pfns that nobody has."""

    world: ClassVar[tuple[str, str, bool, bool]] = WORLDS[0]

    @initialize()
    def boot(self) -> None:
        era, name, holes_in_zone, debug_vm = self.world
        mem_map, flags = kind(name, RAM, MAX_ORDER)
        self.buddy = booted(
            mem_map,
            RAM,
            small(era, MAX_ORDER),
            zones=ZONES,
            flags=flags,
            holes_in_zone=holes_in_zone,
            debug_vm=debug_vm,
        )
        self.free = frozenset(pfn for r in RAM for pfn in range(r.start, r.end))
        self.held: list[tuple[int, int]] = []

    @rule(order=st.integers(0, MAX_ORDER - 1), zone=st.integers(0, 3))
    def alloc(self, order: int, zone: int) -> None:
        pfn = self.buddy.alloc(order, zone)
        fitting: list[tuple[int, int]] = []
        for span in reversed(self.buddy.zones[: zone + 1]):
            blocks = maximal(self.free, span.span, MAX_ORDER, base_of(self.buddy, span.span))
            fitting = sorted((size, start) for start, size in blocks if size >= order)
            if fitting:
                break
        if not fitting:
            assert pfn is None
            return
        assert pfn is not None
        smallest = fitting[0][0]
        starts = [start for size, start in fitting if size == smallest]
        if self.world[0] == "2.4":
            starts = [start + (1 << smallest) - (1 << order) for start in starts]
        assert pfn in starts
        self.free -= frozenset(range(pfn, pfn + (1 << order)))
        self.held.append((pfn, order))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        pfn, order = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.buddy.free(pfn, order)
        self.free |= frozenset(range(pfn, pfn + (1 << order)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def split(self, data: Any) -> None:
        """split_page(): from now on every page of the block is one by itself."""
        pfn, order = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        for page in range(pfn, pfn + (1 << order)):
            self.buddy.pages.set_refcount(self.buddy.mem_map.pfn_to_page(page), 1)
            self.held.append((page, 0))

    @invariant()
    def holds(self) -> None:
        assert faults(self.buddy, self.free) == []
        assert self.buddy.free_pages == len(self.free)
        assert self.buddy.checks.asked == 0 or self.world[2]


@pytest.mark.parametrize(("era", "name", "holes_in_zone", "debug_vm"), WORLDS)
def test_machine(era: str, name: str, holes_in_zone: bool, debug_vm: bool) -> None:
    class World(Machine):
        world = (era, name, holes_in_zone, debug_vm)

    run_state_machine_as_test(
        World,
        settings=settings(
            max_examples=5,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
