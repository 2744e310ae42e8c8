"""Breaks of the buddy system and of the CPUs' own page lists."""

from __future__ import annotations

import numpy as np

from breaks.memmap import ZONE_SHIFT
from breaks.patient import Break, Patient, page_word, set_flag, variable, zone_word
from kvmtools.observe.zones.per_cpu_pages import PerCpuPages
from kvmtools.observe.zones.zones import Zone
from kvmtools.records import PAGE_SIZE

NO_TYPE = 0xFFFF_FFFF


def _block(patient: Patient, order: int) -> tuple[Zone, int]:
    """A zone and a free block of that order or more in it, by pfn."""
    for zone in reversed(patient.healthy.populated_zones):
        for area in zone.free_area[order:]:
            for each in area.lists:
                if len(each.pages):
                    return zone, int(each.pages[0])
    raise AssertionError(f"no free block of order {order}")


def _area(patient: Patient, pfn: int, zone: Zone) -> str:
    return f"zone {zone.name} order {int(patient.healthy.memmap.private[pfn])}"


def list_bent(patient: Patient) -> str:
    zone, pfn = _block(patient, 0)
    patient.write(page_word(patient, pfn, "lru") + 4, variable(patient, "max_pfn"))
    return _area(patient, pfn, zone)


def list_cut(patient: Patient) -> str:
    zone, pfn = _block(patient, 0)
    patient.write(page_word(patient, pfn, "lru"), 0x100)
    return _area(patient, pfn, zone)


def head_referenced(patient: Patient) -> str:
    _zone, pfn = _block(patient, 0)
    patient.write(page_word(patient, pfn, "_refcount"), 1)
    return f"pfn {pfn:#x}"


def head_flagged(patient: Patient) -> str:
    _zone, pfn = _block(patient, 0)
    set_flag(patient, pfn, "PG_dirty", on=True)
    return f"pfn {pfn:#x}"


def order_impossible(patient: Patient) -> str:
    _zone, pfn = _block(patient, 0)
    patient.write(page_word(patient, pfn, "private"), 31)
    return f"pfn {pfn:#x}"


def block_inside_block(patient: Patient) -> str:
    _zone, pfn = _block(patient, 3)
    mark = patient.read(page_word(patient, pfn, "_mapcount"))
    patient.write(page_word(patient, pfn + 1, "_mapcount"), mark)
    patient.write(page_word(patient, pfn + 1, "private"), 0)
    return f"pfn {pfn + 1:#x}"


def mark_lost(patient: Patient) -> str:
    _zone, pfn = _block(patient, 0)
    patient.write(page_word(patient, pfn, "_mapcount"), NO_TYPE)
    return f"pfn {pfn:#x}"


def block_lost(patient: Patient) -> str:
    """A page leaves its list as list_del would have it, yet stays marked."""
    _zone, pfn = _block(patient, 0)
    _leave_list(patient, pfn)
    return f"pfn {pfn:#x}"


def _leave_list(patient: Patient, pfn: int) -> None:
    """``list_del``, without its poison."""
    following = patient.read(page_word(patient, pfn, "lru"))
    previous = patient.read(page_word(patient, pfn, "lru") + 4)
    patient.write(previous, following)
    patient.write(following + 4, previous)


def nr_free_miscounted(patient: Patient) -> str:
    zone = patient.healthy.populated_zones[-1]
    address = zone_word(patient, zone.name, "free_area[4].nr_free")
    patient.write(address, patient.read(address) + 1)
    return f"zone {zone.name} order 4"


def free_pages_miscounted(patient: Patient) -> str:
    zone = patient.healthy.populated_zones[-1]
    address = zone_word(patient, zone.name, "vm_stat[NR_FREE_PAGES]")
    patient.write(address, patient.read(address) + 5)
    return f"zone {zone.name}"


def _count_block(patient: Patient, zone: str, order: int, change: int) -> int:
    """Count blocks of an order up or down, and their pages with them; returns the address of the order's first list."""
    area = zone_word(patient, zone, "free_area") + order * patient.gdb("sizeof(struct free_area)")
    nr_free = area + patient.gdb.offset("struct free_area", "nr_free")
    patient.write(nr_free, patient.read(nr_free) + change)
    pages = zone_word(patient, zone, "vm_stat[NR_FREE_PAGES]")
    patient.write(pages, patient.read(pages) + (change << order))
    return area + patient.gdb.offset("struct free_area", "free_list")


def _allocate(patient: Patient, pfn: int) -> None:
    """Take a free block off its list, whole."""
    memmap = patient.healthy.memmap
    _leave_list(patient, pfn)
    patient.write(page_word(patient, pfn, "_mapcount"), NO_TYPE)
    _count_block(patient, memmap.zone_names[memmap.zone[pfn]], int(memmap.private[pfn]), -1)


def _border(patient: Patient) -> tuple[str, int, int]:
    """A zone, and pfn and order of the smallest block that reaches over its end; no process maps a page of that."""
    walks = [space.walk.physical // np.uint64(PAGE_SIZE) for space in patient.healthy.processes]
    mapped = np.concatenate(walks)
    for zone in patient.healthy.populated_zones:
        order = (zone.end_pfn & -zone.end_pfn).bit_length()
        pfn = zone.end_pfn & -(1 << order)
        if order < len(zone.free_area) and not ((mapped >= pfn) & (mapped < pfn + (1 << order))).any():
            return zone.name, pfn, order
    raise AssertionError("processes map what lies at every border")


def block_reaches_out_of_its_zone(patient: Patient) -> str:
    """A block is freed that ends in the zone behind its own, or in none, as if page_is_buddy() asked for no zone."""
    healthy = patient.healthy
    zone, pfn, order = _border(patient)
    _zone, free = _block(patient, 0)
    mark = patient.read(page_word(patient, free, "_mapcount"))
    heads = healthy.free_blocks.heads
    for head in heads[(heads >= pfn) & (heads < pfn + (1 << order))].tolist():
        _allocate(patient, head)
    kept = (
        (healthy.pkmap_pfns >= pfn) & (healthy.pkmap_pfns < pfn + (1 << order)) & (healthy.pkmap.counts > 1)
    )
    for slot in np.flatnonzero(kept).tolist():  # its users leave: the page may be freed
        patient.write(variable(patient, "pkmap_count") + 4 * slot, 1)
    flags = page_word(patient, pfn, "flags")
    patient.write(flags, patient.read(flags) >> ZONE_SHIFT << ZONE_SHIFT)
    patient.write(page_word(patient, pfn, "_refcount"), 0)
    patient.write(page_word(patient, pfn, "_mapcount"), mark)
    patient.write(page_word(patient, pfn, "private"), order)
    head, node = _count_block(patient, zone, order, 1), page_word(patient, pfn, "lru")
    first = patient.read(head)
    for address, value in ((head, node), (node, first), (node + 4, head), (first + 4, node)):
        patient.write(address, value)
    return f"pfn {pfn:#x}"


def _pageset(patient: Patient) -> tuple[Zone, PerCpuPages, int]:
    """A zone, a pageset of it that holds pages, and the virtual address of its ``struct per_cpu_pages``."""
    for zone in patient.healthy.populated_zones:
        pointer = patient.read(zone_word(patient, zone.name, "per_cpu_pageset"))
        for pageset in zone.pcp:
            if pageset.pages:
                shift = patient.read(variable(patient, f"__per_cpu_offset[{pageset.cpu}]"))
                return zone, pageset, (pointer + shift) % (1 << 32)
    raise AssertionError("no CPU keeps pages")


def pcp_miscounted(patient: Patient) -> str:
    zone, pageset, record = _pageset(patient)
    address = record + patient.gdb.offset("struct per_cpu_pages", "count")
    patient.write(address, pageset.count + 1)
    return f"zone {zone.name} cpu {pageset.cpu}"


def pcp_list_bent(patient: Patient) -> str:
    zone, pageset, _record = _pageset(patient)
    pfn = int(np.concatenate([each.pages for each in pageset.lists])[0])
    patient.write(page_word(patient, pfn, "lru") + 4, variable(patient, "max_pfn"))
    return f"zone {zone.name} cpu {pageset.cpu}"


def pcp_page_referenced(patient: Patient) -> str:
    _zone, pageset, _record = _pageset(patient)
    pfn = int(np.concatenate([each.pages for each in pageset.lists])[0])
    patient.write(page_word(patient, pfn, "_refcount"), 1)
    return f"pfn {pfn:#x}"


BREAKS = (
    Break("buddy.lists-sound", list_bent),
    Break("buddy.lists-sound", list_cut),
    Break("buddy.head-state", head_referenced),
    Break("buddy.head-state", head_flagged),
    Break("buddy.head-state", order_impossible),
    Break("buddy.blocks-disjoint", block_inside_block),
    Break("buddy.block-in-zone", block_reaches_out_of_its_zone),
    Break("buddy.listed", mark_lost),
    Break("buddy.listed", block_lost),
    Break("buddy.nr-free", nr_free_miscounted),
    Break("buddy.free-pages", free_pages_miscounted),
    Break("pcp.count", pcp_miscounted),
    Break("pcp.lists-sound", pcp_list_bent),
    Break("pcp.pages-free", pcp_page_referenced),
)
