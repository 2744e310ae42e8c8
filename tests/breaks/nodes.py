"""Breaks of what a kernel of several nodes keeps of them, in ``page->flags`` and in each node's zones."""

from __future__ import annotations

from breaks.patient import Break, Patient, variable

ZONE_BIT, NODE_BIT, SECTION_BIT = 1 << 22, 1 << 24, 1 << 25
"""The lowest bit of each in ``flags``: seven bits of section at the top, one of node, two of zone
(include/linux/page-flags-layout.h, with CONFIG_NODES_SHIFT=1 and PAE's sections of 512 MiB).
"""
SECTION_FLAGS = 0x3F
"""Bits of ``section_mem_map`` that are no address (include/linux/mmzone.h)."""
BORDER_ABOVE = 5
"""Pages from the end of node 0, and from the beginning of node 1, to those that are broken."""


def _flip(patient: Patient, pfn: int, bit: int) -> str:
    """Change a bit of the flags of a page; section 0 has them all."""
    gdb = patient.gdb
    mem_map = patient.read(variable(patient, "mem_section[0][0].section_mem_map")) & ~SECTION_FLAGS
    place = mem_map + pfn * gdb("sizeof(struct page)") + gdb.offset("struct page", "flags")
    patient.write(place, patient.read(place) ^ bit)
    return f"pfn {pfn:#x}"


def _zone(patient: Patient, node: int, name: str, member: str) -> int:
    """Virtual address of a member of a ``struct zone``."""
    gdb = patient.gdb
    zones = patient.read(variable(patient, f"node_data[{node}]")) + gdb.offset(
        "struct pglist_data", "node_zones"
    )
    return zones + gdb(f"ZONE_{name}") * gdb("sizeof(struct zone)") + gdb.offset("struct zone", member)


def _border(patient: Patient) -> int:
    """The first pfn of node 1, all of which is highmem, as the end of node 0 is."""
    return patient.read(_zone(patient, 1, "HIGHMEM", "zone_start_pfn"))


def last_page_of_node_0_in_node_1(patient: Patient) -> str:
    return _flip(patient, _border(patient) - 1, NODE_BIT)


def first_page_of_node_1_in_node_0(patient: Patient) -> str:
    return _flip(patient, _border(patient), NODE_BIT)


def page_in_another_section(patient: Patient) -> str:
    return _flip(patient, _border(patient) - BORDER_ABOVE, SECTION_BIT)


def page_in_another_zone(patient: Patient) -> str:
    return _flip(patient, _border(patient) + BORDER_ABOVE, ZONE_BIT)


def highmem_of_node_1_longer(patient: Patient) -> str:
    place = _zone(patient, 1, "HIGHMEM", "spanned_pages")
    patient.write(place, patient.read(place) + 1)
    return "node 1 zone HIGHMEM"


BREAKS = tuple(
    Break(rule, do, pae=False, nopae=False, numa=True)
    for rule, do in (
        ("memmap.node", last_page_of_node_0_in_node_1),
        ("memmap.node", first_page_of_node_1_in_node_0),
        ("memmap.section", page_in_another_section),
        ("memmap.zone", page_in_another_zone),
        ("zones.spans", highmem_of_node_1_longer),
    )
)
