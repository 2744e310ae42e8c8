"""Breaks of page table entries and of the tables that hold them."""

from __future__ import annotations

import numpy as np
from layouts import edges

from breaks.patient import Break, Patient, change_entry, entry_place, kernel_entry, page_word, variable
from kvmtools.records import PAGE_SIZE

PRESENT, RW, US, ACCESSED, DIRTY, LARGE, NX = 1, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 63


def _small_leaf(patient: Patient) -> int:
    """A 4 KiB leaf of the direct map above the first MiB, in plain data."""
    walk = patient.healthy.kernel_walk
    start = np.uint64(patient.healthy.page_offset + (1 << 20))
    return int(walk.virtual[(walk.virtual >= start) & (walk.level == 1) & walk.writable][0])


def direct_map_leads_elsewhere(patient: Patient) -> str:
    return change_entry(patient, _small_leaf(patient), lambda entry: entry + PAGE_SIZE)


def direct_map_torn(patient: Patient) -> str:
    return change_entry(patient, _small_leaf(patient), lambda entry: entry & ~PRESENT)


def text_made_writable(patient: Patient) -> str:
    text = variable(patient, "_stext")
    return change_entry(patient, text, lambda entry: entry | RW)


def rodata_made_writable(patient: Patient) -> str:
    rodata = variable(patient, "__start_rodata")
    return change_entry(patient, rodata, lambda entry: entry | RW)


def data_made_executable(patient: Patient) -> str:
    return change_entry(patient, _small_leaf(patient), lambda entry: entry & ~NX)


def vmalloc_made_executable(patient: Patient) -> str:
    walk, layout = patient.healthy.kernel_walk, patient.healthy.predicted
    assert layout.vmalloc_start is not None
    assert layout.vmalloc_end is not None
    within = walk.virtual[walk.within(layout.vmalloc_start, layout.vmalloc_end)]
    writable = walk.writable[walk.within(layout.vmalloc_start, layout.vmalloc_end)]
    return change_entry(patient, int(within[writable][0]), lambda entry: entry & ~NX)


def lowmem_opened_to_user_mode(patient: Patient) -> str:
    return change_entry(patient, _small_leaf(patient), lambda entry: entry | US)


def impossible_bit_set(patient: Patient) -> str:
    """Bit 55 of a PAE entry; without PAE, bit 21 of a large page."""
    walk = patient.healthy.kernel_walk
    if patient.healthy.entry_size == 8:
        return change_entry(patient, _small_leaf(patient), lambda entry: entry | 1 << 55)
    return change_entry(patient, int(walk.virtual[walk.level == 2][-1]), lambda entry: entry | 1 << 21)


def _hook_large_page(patient: Patient, address: int) -> str:
    """Let the directory map a large page at ``address``, as a stray write might."""
    form = patient.healthy.prediction.form
    entry = PRESENT | RW | ACCESSED | DIRTY | LARGE | (NX if form.entry_size == 8 else 0)
    patient.write(kernel_entry(patient, address, level=2), entry, form.entry_size)
    return f"virtual {address & -form.levels[-2].span:#x}"


def guard_page_mapped(patient: Patient) -> str:
    assert patient.healthy.predicted.vmalloc_end is not None
    return _hook_large_page(patient, patient.healthy.predicted.vmalloc_end)


def gap_mapped(patient: Patient) -> str:
    assert patient.healthy.predicted.vmalloc_start is not None
    span = patient.healthy.prediction.form.levels[-2].span
    return _hook_large_page(patient, patient.healthy.predicted.vmalloc_start - span)


def first_megabytes_made_large(patient: Patient) -> str:
    """The direct map begins with 4 KiB pages, for the fixed MTRRs: their table is left for one large page."""
    return _hook_large_page(patient, patient.healthy.page_offset)


def free_block_mapped(patient: Patient) -> str:
    """A large page of a process, at address 0, that lies over a free block."""
    healthy, directory = patient.healthy, patient.healthy.prediction.form.levels[-2]
    pages = directory.span // PAGE_SIZE
    aligned = np.arange(0, healthy.memmap.length - pages, pages)
    pfn = int(aligned[healthy.free_blocks.hold(aligned)][0])
    entry = pfn * PAGE_SIZE | PRESENT | RW | US | ACCESSED | DIRTY | LARGE
    patient.write(entry_place(patient, healthy.processes[0].root, 0, level=2), entry, healthy.entry_size)
    return f"pfn {pfn:#x}"


def idt_unmapped(patient: Patient) -> str:
    """The next exception of any CPU is its last."""
    base = edges(patient.healthy.predicted).cpu_entry_area_base
    assert base is not None
    return change_entry(patient, base, lambda _entry: 0)


def entry_stack_guard_mapped(patient: Patient) -> str:
    """CPU 0's GDT (the page behind the IDT's) shows in the guard page above it, too: no overflow faults there."""
    base = edges(patient.healthy.predicted).cpu_entry_area_base
    assert base is not None
    size = patient.healthy.entry_size
    gdt = kernel_entry(patient, base + PAGE_SIZE)
    patient.write(gdt + size, patient.read(gdt, size), size)
    return f"virtual {base + 2 * PAGE_SIZE:#x}"


def _last_table(patient: Patient) -> int:
    """Physical address of the kernel's last page table."""
    return int(patient.healthy.kernel_walk.tables.physical[-1])


def table_freed(patient: Patient) -> str:
    table = _last_table(patient)
    patient.write(page_word(patient, table // PAGE_SIZE, "_refcount"), 0)
    return f"table {table:#x}"


def table_type_lost(patient: Patient) -> str:
    space = patient.healthy.processes[0]
    tables = space.walk.tables
    table = int(tables.physical[np.flatnonzero(tables.level == 1)[0]])
    patient.write(page_word(patient, table // PAGE_SIZE, "_mapcount"), 0xFFFF_FFFF)
    return f"pfn {table // PAGE_SIZE:#x}"


BREAKS = (
    Break("pagetable.direct-map", direct_map_leads_elsewhere),
    Break("pagetable.direct-map", direct_map_torn),
    Break("pagetable.permissions", text_made_writable),
    Break("pagetable.permissions", rodata_made_writable),
    Break("pagetable.permissions", data_made_executable, nopae=False),
    Break("pagetable.write-xor-execute", vmalloc_made_executable, nopae=False),
    Break("pagetable.kernel-only", lowmem_opened_to_user_mode),
    Break("pagetable.reserved-bits", impossible_bit_set),
    Break("pagetable.presence", guard_page_mapped),
    Break("pagetable.presence", gap_mapped),
    Break("pagetable.large-pages", first_megabytes_made_large),
    Break("pagetable.mapped-in-use", free_block_mapped),
    Break("pagetable.presence", idt_unmapped),
    Break("pagetable.presence", entry_stack_guard_mapped),
    Break("pagetable.tables-in-ram", table_freed),
    Break("pagetable.tables-typed", table_type_lost),
)
