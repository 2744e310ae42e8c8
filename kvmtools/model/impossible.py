"""Configurations that no kernel can have: what Kconfig, a ``BUILD_BUG_ON`` or the processor rules out.

Source: arch/x86/Kconfig and security/Kconfig (5.10 to 7.2), arch/i386/Kconfig (2.6.18), arch/i386/config.in (2.4.18);
SDM vol. 3A, 4.1.1, for what PAE paging alone can do.
"""

from __future__ import annotations

from kvmtools.errors import UsageError
from kvmtools.model.eras import Era
from kvmtools.records import PAGE_SIZE, Configuration


def refuse_impossible(configuration: Configuration, era: Era) -> None:
    """Let pass only what a kernel of this era can be.

    :raises UsageError: with the reason, if one is there
    """
    for reason, found in (_of_any_era(configuration) | _of_this_era(configuration, era)).items():
        if found:
            raise UsageError(f"no i386 kernel has this configuration: {reason}")


def _of_any_era(c: Configuration) -> dict[str, bool]:
    directory = 1 << (30 if c.pae else 22)
    return {
        f"PAGE_OFFSET {c.page_offset:#x} is not on a boundary of {directory >> 20} MiB,"
        " what one entry of the page directory covers": bool(c.page_offset % directory) or not c.page_offset,
        "a CPU without PAE paging has no NX bit": c.nx and not c.pae,
        "page-table isolation on i386 needs PAE": c.pti and not c.pae,
        f"NR_CPUS is {c.nr_cpus}": c.nr_cpus < 1,
        "the permanent fixmap slots end after all fixmap slots":
            c.end_of_permanent_fixed_addresses > c.end_of_fixed_addresses,
        "zone HIGHMEM and CONFIG_HIGHMEM go together": ("HIGHMEM" in c.zone_names) != c.highmem,
        "a kernel without zone NORMAL does not exist": "NORMAL" not in c.zone_names,
        "the buddy allocator has no orders": c.max_order < 1,
        "NUMA on i386 goes with PAE and SPARSEMEM": bool(c.nodes) and not (c.pae and c.sparsemem),
    }  # fmt: skip


def _of_this_era(c: Configuration, era: Era) -> dict[str, bool]:
    splits = ", ".join(f"{offset:#x}" for offset in era.page_offsets[c.pae])
    entry_area = c.cpu_entry_area_size
    return {
        f"PAGE_OFFSET {c.page_offset:#x} is none that {era.name} offers {'with' if c.pae else 'without'} PAE: {splits}":
            c.page_offset not in era.page_offsets[c.pae],
        f"kernels of {era.name} never set the NX bit": c.nx and not era.nx,
        f"{era.name} has no page-table isolation": c.pti and not era.pti,
        f"{era.name} has no SPARSEMEM": c.sparsemem and era.section_size_bits is None,
        f"{era.name} has PAE as CONFIG_HIGHMEM64G only, which is HIGHMEM":
            c.pae and era.pae_needs_highmem and not c.highmem,
        f"{era.name} has no NUMA": bool(c.nodes) and not era.numa,
        f"{era.name} has no zone MOVABLE": "MOVABLE" in c.zone_names and "MOVABLE" not in era.zone_names,
        f"sizeof(struct cpu_entry_area) = {entry_area} is not a number of whole pages":
            era.cpu_entry_area and (bool(entry_area % PAGE_SIZE) or entry_area < PAGE_SIZE),
    }  # fmt: skip
