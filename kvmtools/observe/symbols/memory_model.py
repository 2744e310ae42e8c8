"""Which memory model a kernel was built for, FLATMEM or SPARSEMEM.  Source: include/linux/mmzone.h, 6.1."""

from __future__ import annotations

from kvmtools.observe.symbols.vmlinux import Vmlinux


def has_sections(vmlinux: Vmlinux) -> bool:
    """Whether ``mem_map`` comes in sections (CONFIG_SPARSEMEM); FLATMEM has neither their table nor its type."""
    return vmlinux.has_symbol("mem_section") or vmlinux.has_type("struct mem_section")


def number_of_sections(vmlinux: Vmlinux) -> int:
    """``NR_MEM_SECTIONS``; 0 for FLATMEM.

    The table is an array of roots; with SPARSEMEM_STATIC, the only kind that i386 has, every root holds one.
    """
    if not has_sections(vmlinux):
        return 0
    return vmlinux.sizeof("typeof(mem_section)") // vmlinux.sizeof("struct mem_section")
