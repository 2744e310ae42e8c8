"""Ranges added in any order at run time, beside a set of bytes that are mapped and a dictionary of what was written."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kernel_spaces import IMAGE, kernel_space

from kvmtools.errors import UsageError
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.virtual_map import VirtualMap
from kvmtools.model.paging.walk import walk
from kvmtools.records import Range

RAM = Range(0, 0x1000)
START = 0xE0000000
PAGES = 0x3000
"""Pfns of the window: with 1024-byte struct pages 12 MiB of it, more than one page table."""


class Adding(RuleBasedStateMachine):
    """The map, the numbers of its leaves as a set, and every field that was written."""

    @initialize(
        size=st.sampled_from([32, 36, 40, 1024]),
        large=st.booleans(),
        with_pae=st.booleans(),
        frames=st.integers(1, 4) | st.integers(1, 0xE00),
    )
    def build(self, size: int, large: bool, with_pae: bool, frames: int) -> None:
        space = kernel_space(RAM, with_pae=with_pae)
        self.leaf = space.large_page if large else 4096
        self.size = size
        backing = Range(max(IMAGE.end, 0xF00 - frames), 0xF00)
        pages = self.leaf // 4096
        self.capacity = backing.end // pages - -(-backing.start // pages)
        """Leaves that there is memory for; page tables come from above it."""
        self.mem_map = VirtualMap(space, size, START, PAGES, self.leaf, [backing])
        self.leaves: set[int] = set()
        self.max_pfn = 0
        self.written: dict[int, int] = {}

    def needs(self, pfn: int) -> set[int]:
        """The leaves that hold the first and the last byte of a struct page."""
        return {pfn * self.size // self.leaf, (pfn * self.size + self.size - 1) // self.leaf}

    @rule(start=st.integers(0, PAGES - 1), length=st.integers(1, 4) | st.integers(1, 600))
    def add(self, start: int, length: int) -> None:
        end = min(start + length, PAGES)
        wanted = set(range(start * self.size // self.leaf, (end * self.size - 1) // self.leaf + 1))
        enough = len(wanted | self.leaves) <= self.capacity
        try:
            self.mem_map.add(start, end)
        except UsageError:
            assert not enough
            # Some of the missing runs may have been mapped before memory ran out, each as a whole.
            self.leaves = self.mapped()
            return
        assert enough
        self.leaves |= wanted
        self.max_pfn = max(self.max_pfn, end)

    @rule(pfn=st.integers(-2, PAGES + 2))
    def ask(self, pfn: int) -> None:
        valid = 0 <= pfn < self.max_pfn and self.needs(pfn) <= self.leaves
        assert self.mem_map.pfn_valid(pfn) is valid
        assert self.mem_map.pfn_valid_by_fault(pfn) is valid

    @rule(pfn=st.integers(0, PAGES - 1), value=st.integers(0, 0xFFFFFFFF))
    def write(self, pfn: int, value: int) -> None:
        page = self.mem_map.pfn_to_page(pfn)
        try:
            self.mem_map.write(page, 28, value)
        except Unmapped:
            assert (page + 28 - START) // self.leaf not in self.leaves
            return
        assert (page + 28 - START) // self.leaf in self.leaves
        self.written[pfn] = value

    def mapped(self) -> set[int]:
        """What the processor's walk finds, leaf by leaf."""
        space = self.mem_map.space
        found = walk(space.memory.read, space.tables.root, space.form, START)
        return {(leaf.virtual - START) // self.leaf for leaf in found}

    @invariant()
    def the_page_tables_map_what_was_added(self) -> None:
        assert self.mapped() == self.leaves
        assert self.mem_map.footprint.struct_pages == len(self.leaves) * self.leaf

    @invariant()
    def no_frame_backs_two_leaves(self) -> None:
        space = self.mem_map.space
        found = list(walk(space.memory.read, space.tables.root, space.form, START))
        tables = {table.address for table in space.tables.tables()}
        frames = [frame for leaf in found for frame in range(leaf.physical, leaf.physical + leaf.size, 4096)]
        assert len(set(frames)) == len(frames)
        assert not tables & set(frames)

    @invariant()
    def what_was_written_is_read(self) -> None:
        for pfn, value in self.written.items():
            assert self.mem_map.read(self.mem_map.pfn_to_page(pfn), 28) == value

    @invariant()
    def valid_ranges_are_the_set(self) -> None:
        ranges = {pfn for r in self.mem_map.valid for pfn in range(r.start, r.end)}
        assert ranges == {pfn for pfn in range(self.max_pfn) if self.needs(pfn) <= self.leaves}


Adding.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=20, derandomize=True)
TestAdding = Adding.TestCase
