"""The kernel's own idea of its address space, as far as the guest shows it.

Nothing here is computed by a formula of the kernel's: a boundary is read where the kernel wrote it down, or
seen in its page tables, or it is ``None``.  What the boundaries ought to be is the model's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from kvmtools.errors import Absent, Unobserved
from kvmtools.observe.broken import Broken, noted, reading
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.paging.walk import Walk, walk
from kvmtools.observe.symbols.memory_model import has_sections
from kvmtools.records import PAGE_SIZE, Layout

#: Headings of the kernel's page table dump (arch/x86/mm/dump_pagetables.c, ``address_markers``) and our
#: fields. ``pt_dump_init`` fills in the addresses while the kernel boots; the array exists with
#: ``CONFIG_PTDUMP_CORE``.
_MARKERS = {
    "Kernel Mapping": "page_offset",
    "vmalloc() Area": "vmalloc_start",
    "vmalloc() End": "vmalloc_end",
    "Persistent kmap() Area": "pkmap_base",
    "LDT remap": "ldt_base",
    "CPU entry area": "cpu_entry_area_base",
    "Fixmap area": "fixaddr_start",
}

#: Variables that hold a field's value as it is: arch/x86/mm/init_32.c and pgtable_32.c, mm/memory.c.
_VARIABLES = {
    "high_memory": "high_memory",
    "__FIXADDR_TOP": "fixaddr_top",
    "max_low_pfn": "max_low_pfn",
    "max_pfn": "max_pfn",
    "highstart_pfn": "highstart_pfn",
    "highend_pfn": "highend_pfn",
    "max_mapnr": "max_mapnr",
}


@reading("layout")
def observe_layout(kernel: Kernel, tables: Walk | None = None, broken: list[Broken] | None = None) -> Layout:
    """What this kernel shows of its layout; a field that it does not show is ``None``.

    Where the kernel wrote a boundary down (``address_markers``), that is the answer; the page tables are
    asked for what it did not.

    :param tables: the walk of ``swapper_pg_dir``, if there is one already
    :param broken: takes what cannot be read
    """
    shown = {"page_offset": kernel.page_offset}
    for source in (_evidence(kernel, tables), _variables(kernel), _markers(kernel)):
        with noted(broken, "layout"), suppress(Absent):
            shown.update(source)
    return Layout(**shown)


def _markers(kernel: Kernel) -> Iterator[tuple[str, int]]:
    vmlinux = kernel.vmlinux
    first, size = kernel.address("address_markers"), vmlinux.sizeof("struct addr_marker")
    for index in range(vmlinux.array_length("typeof(address_markers)")):
        marker = first + index * size
        name = kernel.member(marker, "struct addr_marker", "name")
        start = kernel.member(marker, "struct addr_marker", "start_address")
        field = _MARKERS.get(kernel.string(name, 64)) if name else None
        if field and start:
            yield field, start


def _variables(kernel: Kernel) -> Iterator[tuple[str, int]]:
    # With SPARSEMEM max_mapnr is there, but nobody sets it: pfn_valid() asks the sections.
    unset = {"max_mapnr"} if has_sections(kernel.vmlinux) else set()
    for variable, field in _VARIABLES.items():
        if variable not in unset:
            with suppress(Absent):
                yield field, kernel.variable(variable)


def _evidence(kernel: Kernel, tables: Walk | None) -> Iterator[tuple[str, int]]:
    """What other structures give away."""
    with suppress(Absent):
        yield "last_pkmap", kernel.vmlinux.array_length("typeof(pkmap_count)")
    for field, find in _FINDERS.items():
        with suppress(Unobserved):  # this kernel has none, or it is not set up yet: the pointer leads nowhere
            address = find(kernel, tables)
            if address is not None:
                yield field, address


def _pkmap_base(kernel: Kernel, tables: Walk | None) -> int | None:
    """Where the page tables hook the table of ``pkmap_page_table`` (set by ``permanent_kmaps_init``)."""
    entry = kernel.variable("pkmap_page_table")
    if not entry:
        return None
    table, offset = divmod(kernel.physical(entry), PAGE_SIZE)
    if tables is None:
        tables = kernel_walk(kernel, start=kernel.lowmem_end % kernel.architecture.address_end)
    below = tables.tables
    hooked = np.flatnonzero((below.physical == table * PAGE_SIZE) & (below.level == 1))
    if len(hooked) != 1:
        return None
    return int(below.virtual[hooked[0]]) + offset // tables.form.entry_size * PAGE_SIZE


def _cpu_entry_area_base(kernel: Kernel, _tables: Walk | None) -> int | None:
    """Where the IDT is used at: the first page of the area (``idt_map_in_cea``, 4.20 and later)."""
    address = kernel.member(kernel.address("idt_descr"), "typeof(idt_descr)", "address")
    return address if address >= kernel.lowmem_end else None


_FINDERS: dict[str, Callable[[Kernel, Walk | None], int | None]] = {
    "pkmap_base": _pkmap_base,
    "cpu_entry_area_base": _cpu_entry_area_base,
}


def kernel_walk(kernel: Kernel, *, start: int = 0) -> Walk:
    """The kernel's own page tables, ``swapper_pg_dir``, from ``start`` up."""
    return walk(kernel.memory, kernel.root, kernel.paging, start=start)
