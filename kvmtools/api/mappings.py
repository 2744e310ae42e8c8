"""Everything that a page table maps: columns, and the rows that people read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kvmtools.api.page_tables import PageTable, PageTableChoice
from kvmtools.errors import MemoryFault, UsageError
from kvmtools.observe.paging.entry_bits import flags_text
from kvmtools.observe.paging.runs import Runs, runs
from kvmtools.observe.paging.walk import Walk, walk
from kvmtools.observe.space.regions import REGION_NAMES, Regions
from kvmtools.records import PAGE_SIZE, Leaf
from kvmtools.show.mappings import run_table, totals
from kvmtools.show.printable import printable
from kvmtools.show.style import uncoloured

if TYPE_CHECKING:
    from kvmtools.api.session import Session


_BATCH = 4096
"""Leaves that are turned into rows at a time: there may be a million."""


@dataclass(frozen=True, slots=True)
class MappedRun:
    """Neighbouring pages that are alike, ``[virtual, end)``; permissions are effective."""

    virtual: int
    end: int
    page_size: int
    """Bytes of each page."""
    pages: int
    physical: int
    """Where the first page leads."""
    linear: bool
    """Whether the others follow it in physical memory, too."""
    writable: bool
    user: bool
    executable: bool
    flags: str
    """``"P RW G NX"``, of the first entry without A and D, which the CPU sets as it goes."""
    region: str


class MappedPage(NamedTuple):
    """One leaf: ``size`` bytes at ``virtual`` lead to ``physical``; permissions are effective."""

    virtual: int
    physical: int
    size: int
    """Bytes."""
    entry: int
    """Raw."""
    level: int
    """1 for the table of 4 KiB pages, counting upwards."""
    table: int
    """Physical address of the table that holds the entry."""
    index: int  # type: ignore[assignment]  # a column of the walk, not tuple.index()
    """The entry's place in the table."""
    writable: bool
    user: bool
    executable: bool
    flags: str
    """``"P RW A D G NX"``."""
    region: str
    """The kernel's name for the place, with the slot where it is made of slots."""
    entry_size: int
    """Bytes of an entry: 8 with PAE, 4 without."""


@dataclass(frozen=True, eq=False, repr=False)
class Mappings:
    """What one page table maps, in order of address; prints as ``kvmtools walk`` does."""

    page_table: PageTable
    walk: Walk
    """Every present leaf as columns of shape ``(number of leaves,)``: ``virtual``, ``physical``, ``size`` (bytes),
    ``entry`` (raw), ``level``, ``table``, ``index``, ``writable``, ``user``, ``executable``."""
    regions: Regions

    def __len__(self) -> int:
        return len(self.walk)

    def runs(self) -> Iterator[MappedRun]:
        """Neighbouring leaves that are alike, in one; none goes across the boundary of a region."""
        found = runs(self.walk, boundaries=[region.start for region in self.regions], scattered=True)
        names = [field.name for field in fields(Runs)]
        for values in zip(*(getattr(found, name).tolist() for name in names), strict=True):
            run = dict(zip(names, values, strict=True))
            yield MappedRun(
                virtual=run["virtual"],
                end=run["virtual"] + run["size"],
                page_size=run["page_size"],
                pages=run["count"],
                physical=run["physical"],
                linear=run["linear"],
                writable=run["writable"],
                user=run["user"],
                executable=run["executable"],
                flags=flags_text(run["flags"], run["level"], self.walk.form),
                region=self.regions.find(run["virtual"]).name,
            )

    def pages(self) -> Iterator[MappedPage]:
        """Every leaf by itself, with its raw entry and where that stands."""
        walk, form = self.walk, self.walk.form
        words = cache(lambda flags, level: flags_text(flags, level, form))
        # Large pages are few, and have flags where others have an address.
        flags = np.where(walk.level == 1, walk.entry & ~np.uint64(form.level(1).address), walk.entry)
        columns = [getattr(walk, name) for name in MappedPage._fields[:10]]
        for start in range(0, len(walk), _BATCH):
            rows = slice(start, start + _BATCH)
            levels = walk.level[rows].tolist()
            written = map(words, flags[rows].tolist(), levels)
            places = self.regions.describe_all(walk.virtual[rows])
            values = zip(*(column[rows].tolist() for column in columns), written, places, strict=True)
            yield from (MappedPage._make((*row, form.entry_size)) for row in values)

    @property
    def summary(self) -> str:
        """The page table, and how much it maps, in one line."""
        table, sizes = self.page_table, self.walk.size
        found = totals(len(sizes), int((sizes > PAGE_SIZE).sum()), int(sizes.sum()))
        return printable(f"{table.name}, cr3 {table.cr3:#x}, {self.walk.form.name}: {found}")

    def __repr__(self) -> str:
        return uncoloured(f"{self.summary}\n{run_table(self.runs())}" if len(self) else self.summary)


def mapped(
    session: Session, choice: PageTableChoice, start: int, end: int | None, region: str | None = None
) -> Mappings:
    """What the page table maps in ``[start, end)``.

    :param end: the end of the address space if ``None``
    :param region: only leaves that begin in this one; blanks of its name may be hyphens
    :raises UsageError: if the range is empty, or there is no such page table or region
    :raises MemoryFault: if the page table lies outside RAM
    """
    from kvmtools.observe.paging.translate import is_ram
    from kvmtools.observe.space.layout import observe_layout
    from kvmtools.observe.space.regions import regions_of

    kernel = session.kernel
    end = kernel.architecture.address_end if end is None else end
    if start >= end:
        raise UsageError(f"the range from {start:#x} to {end:#x} is empty")

    def read() -> Mappings:
        table, kernel = choice.find(session), session.seen_by(choice.cpu)
        found = walk(kernel.memory, table.cr3, kernel.paging, start=start, end=end)
        return Mappings(table, found, regions_of(kernel, observe_layout(kernel)))

    found = session.held(read)
    form = found.walk.form
    root = found.page_table.cr3 & form.cr3
    if not is_ram(kernel.memory, root):
        raise MemoryFault(root, f"the {form.levels[0].name} table at {root:#x} lies outside RAM")
    return found if region is None else replace(found, walk=_within(found.walk, found.regions, region))


def region_names(regions: Regions | None = None) -> list[str]:
    """Names of regions as one word each: of this guest and of any."""
    names = (*REGION_NAMES, *(region.name for region in regions or ()))
    return list(dict.fromkeys(map(_plain, names)))


def _within(found: Walk, regions: Regions, name: str) -> Walk:
    """The leaves that begin in a region."""
    if _plain(name) not in region_names(regions):
        names = ", ".join(sorted(region_names(regions)))
        raise UsageError(f"no region is called '{name}'", hint=f"one of: {names}")
    rows = np.zeros(len(found), np.bool_)
    for region in regions:
        if _plain(region.name) == _plain(name):
            rows[found.within(region.start, region.end)] = True
    columns: dict[str, Any] = {each.name: getattr(found, each.name)[rows] for each in fields(Leaf)}
    return replace(found, **columns)


def _plain(name: str) -> str:
    """A region's name without blanks, for a word of the command line."""
    return name.replace(" ", "-")
