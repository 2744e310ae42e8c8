"""The kernel's own view of memory, with a meter on it: every load is counted, and every TLB entry that it needs.

Two things map an address.  The *direct map* is arithmetic: RAM below ``max_low_pfn`` at ``PAGE_OFFSET``, in large
pages wherever :func:`kvmtools.model.space.direct_map.large_leaf_fault` finds nothing against one.  Everything else is
in page tables in simulated memory, and is found by :func:`kvmtools.model.paging.walk.translate`
like any processor would.

Counted are the loads and stores of kernel data that an operation cannot do without; constants (``PAGE_OFFSET``, the
address of a static array) are in the instructions and cost nothing.  A TLB entry holds one leaf, of 4 KiB or of 2 or
4 MiB, and is counted once for an operation however often it serves.  What the processor itself reads when an entry
is missing is kept apart, as the *walk*: one entry of each level down to the leaf, except the four of PAE's first
table, which MOV CR3 has put into registers (SDM 3A, 4.4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memory.memblock import Memblock
from kvmtools.model.memory.ram import ISA_END, Ram
from kvmtools.model.paging.page_tables import PageTables
from kvmtools.model.paging.physical import Physical
from kvmtools.model.paging.walk import PagingForm, translate
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import pfn_up
from kvmtools.model.space import direct_map
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Leaf, Range

DEFAULT_IMAGE = Range(0x1000, 0x1800)
"""Pfns of an image whose place is not known: CONFIG_PHYSICAL_START is 16 MiB, and 8 MiB is a fair size."""


class TlbEntry(NamedTuple):
    """``size`` bytes at ``virtual`` that one TLB entry maps to ``physical``."""

    virtual: int
    physical: int
    size: int


class Cost(NamedTuple):
    """What an operation asks of memory."""

    references: int
    """Loads and stores of kernel data."""
    tlb_entries: int
    """Different leaves that these go through."""
    walk_references: int
    """Page-table entries that the processor reads if the TLB holds none of those leaves."""
    faults: int = 0
    """Page faults on the way, for an operation that survives them."""


@dataclass(slots=True)
class _Meter:
    """What was counted since it began; one always runs, and only :meth:`KernelSpace.measure` reads its own."""

    leaves: dict[int, TlbEntry] = field(default_factory=dict)
    """By virtual address."""
    references: int = 0
    faults: int = 0


class KernelSpace:
    """Kernel virtual memory over simulated RAM.

    :param form: how page tables are written; its word is 4 bytes, or 8 in long mode
    :param ram: RAM, in pfns
    :param page_offset: where the direct map begins
    :param mapped: the RAM that the direct map maps
    :param may_be_large: whether the large page at this physical address may be one leaf
    :param image: pfns of the kernel's image
    :param bss: the pfn in it where variables begin; by default the first
    :raises UsageError: if the image is not in the direct map as a whole
    """

    def __init__(
        self,
        form: PagingForm,
        ram: Iterable[Range],
        *,
        page_offset: int,
        mapped: Ram,
        may_be_large: Callable[[int], bool],
        image: Range = DEFAULT_IMAGE,
        bss: int | None = None,
    ) -> None:
        self.form = form
        self.page_offset = page_offset
        self.large_page = form.levels[-2].span
        self.word = 8 if len(form.levels) > 3 else 4
        """``sizeof(unsigned long)``."""
        self.ram = tuple(ram)
        self.memory = Physical(tuple(Range(r.start << PAGE_SHIFT, r.end << PAGE_SHIFT) for r in self.ram))
        self._mapped = mapped
        self.lowmem = Range(0, self._mapped.ranges[-1].end)
        """Pfns below ``max_low_pfn``."""
        if self._mapped.pages(image.start, image.end) < len(image):
            raise UsageError(
                f"the kernel's image, pfns [{image.start:#x}, {image.end:#x}), is not all in lowmem",
                hint=f"lowmem ends at pfn {self.lowmem.end:#x}: this kernel could not boot",
            )
        self._may_be_large = may_be_large
        self._large: dict[int, bool] = {}
        self.memblock = Memblock(self.ram)
        self.memblock.reserve(Range(0, ISA_END >> PAGE_SHIFT))
        self.memblock.reserve(image)
        root = (image.start if bss is None else bss) << PAGE_SHIFT
        self.tables = PageTables(self.memory, form, self.table_page, root)
        """Begins with ``swapper_pg_dir``, a page of the image."""
        self._next_variable = self.direct(root + PAGE_SIZE)
        self._meter = _Meter()

    def table_page(self) -> int:
        """The physical address of a lowmem page for a page table: the kernel must be able to read it."""
        return self.memblock.take(1, self.lowmem).start << PAGE_SHIFT

    def variable(self, words: int = 1) -> int:
        """Room for a variable of ``words`` longs in the image; its address is a constant of the kernel."""
        address = self._next_variable
        self._next_variable += words * self.word
        return address

    def direct(self, physical: int) -> int:
        """``__va``: where the direct map has it, whether or not it reaches that far."""
        return self.page_offset + physical

    def leaf(self, virtual: int) -> TlbEntry | None:
        """What maps ``virtual``; ``None`` if nothing does."""
        physical = virtual - self.page_offset
        if physical >> PAGE_SHIFT in self._mapped:
            start = physical & -self.large_page
            if start not in self._large:
                self._large[start] = self._may_be_large(start)
            size = self.large_page if self._large[start] else PAGE_SIZE
            start = physical & -size
            return TlbEntry(self.direct(start), start, size)
        found = translate(self.memory.read, self.tables.root, virtual, self.form)
        return TlbEntry(found.virtual, found.physical, found.size) if isinstance(found, Leaf) else None

    def read(self, virtual: int, size: int) -> int:
        """The little-endian number of ``size`` bytes at ``virtual``, which lies within one page.

        :raises Unmapped: if nothing maps it
        """
        return int.from_bytes(self.memory.read(self._physical(virtual), size), "little")

    def write(self, virtual: int, size: int, value: int) -> None:
        """Store a number; as :meth:`read`."""
        self.memory.write(self._physical(virtual), value.to_bytes(size, "little"))

    def touch(self, virtual: int) -> None:
        """A load whose value nobody wants; as :meth:`read`."""
        self._physical(virtual)

    def measure(self, operation: Callable[[], object]) -> Cost:
        """What ``operation`` costs, found by doing it; an exception of its own passes through."""
        self._meter = meter = _Meter()
        operation()
        walks = sum(map(self._walk, meter.leaves.values()))
        return Cost(meter.references, len(meter.leaves), walks, meter.faults)

    def _physical(self, virtual: int) -> int:
        leaf = self.leaf(virtual)
        if leaf is None:
            self._meter.faults += 1
            raise Unmapped(virtual, "nothing is mapped there")
        self._meter.references += 1
        self._meter.leaves[leaf.virtual] = leaf
        return virtual - leaf.virtual + leaf.physical

    def _walk(self, leaf: TlbEntry) -> int:
        in_memory = self.form.levels[self.form.pointer_registers :]
        return sum(level.span >= leaf.size for level in in_memory)


def image_pfns(configuration: Configuration) -> Range:
    """Page frames of the kernel's image, :data:`DEFAULT_IMAGE` if nothing tells."""
    sections, base = configuration.image.sections, configuration.page_offset
    if not {"_text", "_end"} <= sections.keys():
        return DEFAULT_IMAGE
    return Range((sections["_text"] - base) // PAGE_SIZE, pfn_up(sections["_end"] - base))


def booted(prediction: Prediction, max_low_pfn: int | None = None) -> KernelSpace:
    """The space of the kernel that ``prediction`` is about, before it has a ``mem_map``.

    Of the direct map it has what leads to RAM: in the first MiB, and up to 2.6.32 in holes as well, a kernel maps more,
    where no ``struct page`` could be.

    :param max_low_pfn: where lowmem ends instead, for a kernel that keeps virtual space for something else
    """
    configuration, layout, ram = prediction.configuration, prediction.layout, prediction.ram
    if max_low_pfn is not None:
        layout = replace(layout, max_low_pfn=max_low_pfn)
    base, image = configuration.page_offset, image_pfns(configuration)
    bss = configuration.image.sections.get("__bss_start", base) - base >> PAGE_SHIFT
    return KernelSpace(
        prediction.form,
        ram.below(layout.max_pfn).ranges,
        page_offset=base,
        mapped=ram.below(layout.max_low_pfn),
        may_be_large=lambda start: not direct_map.large_leaf_fault(configuration, layout, ram, start),
        image=image,
        bss=bss if bss in image else None,
    )
