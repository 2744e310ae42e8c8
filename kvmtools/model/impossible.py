"""Configurations that no kernel can have: what Kconfig, a ``BUILD_BUG_ON`` or the processor rules out.

Source: arch/x86/Kconfig and security/Kconfig (5.10 to 7.2), arch/i386/Kconfig (2.6.18), arch/i386/config.in (2.4.18);
SDM vol. 3A, 4.1.1, for what PAE paging alone can do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kvmtools.errors import Unobserved, UsageError
from kvmtools.model.eras import Era
from kvmtools.records import PAGE_SIZE, Configuration


def refuse_impossible(configuration: Configuration, era: Era) -> None:
    """Let pass only what a kernel of this era can be; what is not known of it rules nothing out.

    :raises UsageError: with the reason, if one is there
    """
    for fault in _FAULTS:
        with suppress(Unobserved):
            if reason := fault(configuration, era):
                raise UsageError(f"no i386 kernel has this configuration: {reason}")


def _directory(c: Configuration) -> int:
    """Bytes that one entry of the top table covers."""
    return 1 << (30 if c.pae else 22)


def _splits(c: Configuration, era: Era) -> str:
    return ", ".join(f"{offset:#x}" for offset in era.page_offsets[c.pae])


#: Each says why a configuration is impossible, or nothing.
_FAULTS: tuple[Callable[[Configuration, Era], str], ...] = (
    lambda c, _: (
        f"PAGE_OFFSET {c.page_offset:#x} is not on a boundary of {_directory(c) >> 20} MiB,"
        " what one entry of the page directory covers"
        if c.page_offset % _directory(c) or not c.page_offset
        else ""
    ),
    lambda c, _: "a CPU without PAE paging has no NX bit" if c.nx and not c.pae else "",
    lambda c, _: "page-table isolation on i386 needs PAE" if c.pti and not c.pae else "",
    lambda c, _: f"NR_CPUS is {c.nr_cpus}" if c.nr_cpus < 1 else "",
    lambda c, _: (
        "the permanent fixmap slots end after all fixmap slots"
        if c.end_of_permanent_fixed_addresses > c.end_of_fixed_addresses
        else ""
    ),
    lambda c, _: (
        "zone HIGHMEM and CONFIG_HIGHMEM go together" if ("HIGHMEM" in c.zone_names) != c.highmem else ""
    ),
    lambda c, _: "a kernel without zone NORMAL does not exist" if "NORMAL" not in c.zone_names else "",
    lambda c, _: "the buddy allocator has no orders" if c.max_order < 1 else "",
    lambda c, _: (
        "NUMA on i386 goes with PAE and SPARSEMEM" if c.nodes and not (c.pae and c.sparsemem) else ""
    ),
    lambda c, era: (
        f"PAGE_OFFSET {c.page_offset:#x} is none that {era.name} offers"
        f" {'with' if c.pae else 'without'} PAE: {_splits(c, era)}"
        if c.page_offset not in era.page_offsets[c.pae]
        else ""
    ),
    lambda c, era: f"kernels of {era.name} never set the NX bit" if c.nx and not era.nx else "",
    lambda c, era: f"{era.name} has no page-table isolation" if c.pti and not era.pti else "",
    lambda c, era: f"{era.name} has no SPARSEMEM" if c.sparsemem and era.section_size_bits is None else "",
    lambda c, era: (
        f"{era.name} has PAE as CONFIG_HIGHMEM64G only, which is HIGHMEM"
        if c.pae and era.pae_needs_highmem and not c.highmem
        else ""
    ),
    lambda c, era: f"{era.name} has no NUMA" if c.nodes and not era.numa else "",
    lambda c, era: (
        f"{era.name} has no zone MOVABLE"
        if "MOVABLE" in c.zone_names and "MOVABLE" not in era.zone_names
        else ""
    ),
    lambda c, era: (
        f"sizeof(struct cpu_entry_area) = {c.cpu_entry_area_size} is not a number of whole pages"
        if era.cpu_entry_area and (c.cpu_entry_area_size % PAGE_SIZE or c.cpu_entry_area_size < PAGE_SIZE)
        else ""
    ),
)
