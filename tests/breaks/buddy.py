"""Breaks of the buddy system and of the CPUs' own page lists."""

from __future__ import annotations

import numpy as np

from breaks.patient import Break, Patient, page_word, set_flag, variable, zone_word
from kvmtools.observe.zones.per_cpu_pages import PerCpuPages
from kvmtools.observe.zones.zones import Zone

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
    following = patient.read(page_word(patient, pfn, "lru"))
    previous = patient.read(page_word(patient, pfn, "lru") + 4)
    patient.write(previous, following)
    patient.write(following + 4, previous)
    return f"pfn {pfn:#x}"


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


def block_reaches_out_of_its_zone(patient: Patient) -> str:
    """A page near the end of NORMAL is marked as the head of a block as large as there are."""
    zone = next(each for each in patient.healthy.populated_zones if each.name == "NORMAL")
    order = patient.healthy.prediction.configuration.max_order - 1
    pfn = (zone.end_pfn - 1) & -(1 << order)
    _zone, free = _block(patient, 0)
    patient.write(page_word(patient, pfn, "_mapcount"), patient.read(page_word(patient, free, "_mapcount")))
    patient.write(page_word(patient, pfn, "private"), order)
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
    Break("buddy.listed", mark_lost),
    Break("buddy.listed", block_lost),
    Break("buddy.nr-free", nr_free_miscounted),
    Break("buddy.free-pages", free_pages_miscounted),
    Break("pcp.count", pcp_miscounted),
    Break("pcp.lists-sound", pcp_list_bent),
    Break("pcp.pages-free", pcp_page_referenced),
)

ALONE = (Break("buddy.block-in-zone", block_reaches_out_of_its_zone),)
