"""Both sides at one table: what was observed, what the model predicts, and the views of them that rules share.

Everything is worked out when it is first asked for, and once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare.free_blocks import FreeBlocks, free_blocks, linked_blocks, marked_blocks
from kvmtools.compare.list_orders import with_orders
from kvmtools.compare.locks import HeldLock, held_locks
from kvmtools.compare.subjects import slot, virtual
from kvmtools.compare.whole_memmap import whole_memmap
from kvmtools.errors import Absent, MemoryFault, Unobserved
from kvmtools.model.paging import walk as model_walk
from kvmtools.model.pkmap.area import PkmapArea, bucket_of
from kvmtools.model.prediction import Prediction
from kvmtools.observe.kmap.page_address import HashEntry
from kvmtools.observe.kmap.pkmap import Pkmap
from kvmtools.observe.observed import Observed
from kvmtools.observe.pages.memmap import MemMap
from kvmtools.observe.paging.walk import Walk
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.observe.zones.zones import Place, Zone
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, PredictedLayout, Range


@dataclass(frozen=True, eq=False)
class AddressSpace:
    """A set of page tables and the half of the address space that was walked: the kernel's, or a process's.

    :param root: physical address of the top table
    """

    name: str
    pid: int | None
    root: int
    walk: Walk
    start: int
    end: int

    def subject(self, address: int) -> str:
        """Canonical words for an address here."""
        return virtual(address) if self.pid is None else f"pid {self.pid} {virtual(address)}"


class Case:
    """One observation and the prediction for its configuration."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed

    # The guest

    @property
    def vmlinux(self) -> Vmlinux:
        """Types and symbols of the vmlinux."""
        return self.observed.kernel.vmlinux

    @property
    def page_offset(self) -> int:
        """``PAGE_OFFSET``."""
        return self.prediction.configuration.page_offset

    @cached_property
    def memmap(self) -> MemMap:
        """``mem_map`` as observed, told by the model how far it goes and where its flags keep what."""
        return whole_memmap(self.observed, self.prediction)

    @cached_property
    def unsettled(self) -> tuple[HeldLock, ...]:
        """Locks that were held when the guest was stopped."""
        return tuple(held_locks(self.observed))

    def address(self, symbol: str) -> int:
        """Virtual address of a symbol."""
        return self.observed.kernel.address(symbol)

    def physical(self, address: int) -> int | None:
        """Physical address behind a linear-map address; ``None`` outside of it."""
        try:
            return self.observed.kernel.physical(address)
        except MemoryFault:
            return None

    def word(self, address: int) -> int:
        """A word of the snapshot: an ``unsigned long``, or a pointer.

        :raises MemoryFault: if it was not captured
        """
        return self.observed.kernel.word(address)

    # The model

    @cached_property
    def prediction(self) -> Prediction:
        """All that the model says about a kernel of this configuration."""
        return Prediction(self.observed.configuration)

    @property
    def predicted(self) -> PredictedLayout:
        """The layout as the model works it out."""
        return self.prediction.layout

    @property
    def ram_ranges(self) -> tuple[Range, ...]:
        """RAM by pfn, as the model works it out."""
        return self.prediction.ram.ranges

    def region(self, address: int) -> str:
        """The model's name for the place of a kernel address."""
        for expectation in self.prediction.expectations:
            if expectation.start <= address < expectation.end:
                return expectation.name
        return "user space"

    # Page tables

    @property
    def kernel_walk(self) -> Walk:
        """The kernel's own page tables as the observer walked them."""
        return self.observed.walk

    @property
    def entry_size(self) -> int:
        """Bytes of a page table entry."""
        return self.prediction.form.entry_size

    @cached_property
    def kernel_space(self) -> AddressSpace:
        """The kernel's own tables: all that they can map."""
        kernel = self.observed.kernel
        end = kernel.architecture.address_end
        return AddressSpace(kernel.architecture.root, None, kernel.root, self.observed.walk, 0, end)

    @cached_property
    def processes(self) -> tuple[AddressSpace, ...]:
        """The user half of every process whose tables were captured."""
        walks = self.observed.user_walks
        return tuple(
            AddressSpace(f"{each.comm}[{each.pid}]", each.pid, each.pgd, walks[each.pid], 0, self.page_offset)
            for each in self.observed.processes
            if each.pid in walks
        )

    @property
    def address_spaces(self) -> tuple[AddressSpace, ...]:
        """The kernel's and every process's, if processes can be had."""
        try:
            return (self.kernel_space, *self.processes)
        except Absent:
            return (self.kernel_space,)

    @cached_property
    def kexec_leaves(self) -> NDArray[np.intp]:
        """Rows of the kernel's walk that map the control page of a loaded kexec image: executable while it is."""
        pfns = self.memmap.page_to_pfn(np.array(self.observed.control_pages, np.int64))
        rows = self.kernel_walk.rows(
            np.uint64(self.page_offset) + (pfns[pfns >= 0] << PAGE_SHIFT).astype(np.uint64)
        )
        return rows[rows >= 0]

    # Pkmap

    @cached_property
    def pkmap(self) -> Pkmap:
        """pkmap as observed; rules that need it say so."""
        assert self.observed.pkmap is not None
        return self.observed.pkmap

    @cached_property
    def area(self) -> PkmapArea:
        """pkmap's place and protection as predicted; rules that need it say so."""
        assert self.prediction.pkmap is not None
        return self.prediction.pkmap

    @cached_property
    def pkmap_pfns(self) -> NDArray[np.int64]:
        """The pfn in every slot's PTE."""
        address = self.prediction.form.levels[-1].leaf
        return ((self.pkmap.ptes & np.uint64(address)) >> np.uint64(PAGE_SHIFT)).astype(np.int64)

    @cached_property
    def present_slots(self) -> NDArray[np.bool_]:
        """Which slots have a present PTE; shape ``(LAST_PKMAP,)``."""
        present: NDArray[np.bool_] = (self.pkmap.ptes & np.uint64(model_walk.PRESENT)) != 0
        return present

    @cached_property
    def mapped_slots(self) -> NDArray[np.intp]:
        """Numbers of the slots that are counted and mapped: those whose PTE can be judged."""
        return np.flatnonzero((self.pkmap.counts >= 1) & self.present_slots)

    @cached_property
    def hash_entries(self) -> tuple[HashEntry, ...]:
        """Every entry of the page-address hash, bucket by bucket."""
        return tuple(entry for bucket in self.pkmap.buckets for entry in bucket.entries)

    def slot_of(self, address: int) -> int | None:
        """The slot at a virtual address; ``None`` if it is no slot's first byte."""
        return None if address % PAGE_SIZE else self.area.slot_of(address)

    def slot_subjects(self, address: int) -> tuple[str, ...]:
        """The slot that lies at a virtual address, as a subject; none outside pkmap."""
        area = self.prediction.pkmap
        number = None if area is None else area.slot_of(address)
        return () if number is None else (slot(number),)

    def bucket_of(self, page: int) -> int:
        """The bucket that a ``struct page *`` belongs to; rules that need the hash say so."""
        multiplier = self.prediction.era.hash_multiplier
        assert multiplier is not None
        return bucket_of(page, multiplier=multiplier, order=len(self.pkmap.buckets).bit_length() - 1)

    def page_of(self, pfn: int) -> int | None:
        """Address of the ``struct page`` of a pfn; ``None`` if it has none."""
        try:
            return self.memmap.pfn_to_page(pfn)
        except IndexError:
            return None

    def name_page(self, page: int) -> str:
        """What a ``struct page *`` is."""
        pfn = int(self.memmap.page_to_pfn(np.array([page]))[0])
        return "no struct page" if pfn < 0 else f"pfn {pfn:#x}"

    # Zones

    def zone_title(self, node: int, index: int) -> str:
        """What messages call a zone by the numbers that a ``struct page`` has; they may be any."""
        names = self.memmap.zone_names
        name = names[index] if index < len(names) else f"#{index}"
        return Place(node, index, name, len(self.prediction.configuration.nodes) or 1).title

    def zone_of(self, number: int) -> tuple[int, int]:
        """Node and zone in the ``struct page`` of a pfn."""
        nodes = self.memmap.node
        return 0 if nodes is None else int(nodes[number]), int(self.memmap.zone[number])

    @cached_property
    def populated_zones(self) -> tuple[Zone, ...]:
        """Zones that have pages; their CPUs' lists were told which order each is for."""
        zones = with_orders(self.observed.zones, self.prediction.configuration)
        return tuple(zone for zone in zones if zone.present)

    @cached_property
    def free_blocks(self) -> FreeBlocks:
        """Every ``PageBuddy`` page with the extent of its block."""
        return free_blocks(self.memmap)

    @cached_property
    def marked_blocks(self) -> NDArray[np.int64]:
        """Every block that a ``struct page`` marks, as :attr:`linked_blocks`."""
        return marked_blocks(self.memmap, self.free_blocks)

    @cached_property
    def linked_blocks(self) -> NDArray[np.int64]:
        """Every block on a free list, as keys that :func:`kvmtools.compare.free_blocks.unpack` reads."""
        return linked_blocks(self.populated_zones)

    @cached_property
    def observed_ram(self) -> dict[str, tuple[Range, ...]]:
        """RAM by pfn in the kernel's books, each by its name; a book that names none is there all the same."""
        ram, books, missing = self.observed.ram, dict[str, tuple[Range, ...]](), list[Unobserved]()
        try:
            books["System RAM of /proc/iomem"] = ram.pages
        except Unobserved as reason:
            missing.append(reason)
        try:
            if ram.memblock is not None:
                books["memblock.memory"] = tuple(
                    Range(-(-each.start // PAGE_SIZE), each.end // PAGE_SIZE) for each in ram.memblock
                )
        except Unobserved as reason:
            missing.append(reason)
        if missing and not books:
            raise missing[0]
        return books
