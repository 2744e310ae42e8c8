"""Breaks of what ``struct page`` holds from boot on."""

from __future__ import annotations

import numpy as np

from breaks.patient import Break, Patient, page_word, set_flag, variable
from kvmtools.records import PAGE_SIZE

BIOS_PFN = 0xA0
ZONE_SHIFT = 30
"""The zone is in the two highest bits of ``flags`` where these hold no node and no section
(include/linux/page-flags-layout.h).
"""


def _flip_zone(patient: Patient, pfn: int) -> str:
    address = page_word(patient, pfn, "flags")
    patient.write(address, patient.read(address) ^ 1 << ZONE_SHIFT)
    return f"pfn {pfn:#x}"


def used_page_in_wrong_zone(patient: Patient) -> str:
    memmap = patient.healthy.memmap
    return _flip_zone(patient, int(np.flatnonzero(memmap.refcount > 0)[1000]))


def free_page_in_wrong_zone(patient: Patient) -> str:
    return _flip_zone(patient, int(np.flatnonzero(patient.healthy.memmap.buddy)[3]))


def per_cpu_page_in_wrong_zone(patient: Patient) -> str:
    pages = [zone.pcp_pages for zone in patient.healthy.populated_zones]
    return _flip_zone(patient, int(np.concatenate(pages)[0]))


def hole_given_away(patient: Patient) -> str:
    set_flag(patient, BIOS_PFN, "PG_reserved", on=False)
    return f"pfn {BIOS_PFN:#x}"


def hole_taken(patient: Patient) -> str:
    patient.write(page_word(patient, BIOS_PFN, "_refcount"), 2)
    return f"pfn {BIOS_PFN:#x}"


def _text_pfn(patient: Patient) -> int:
    return (variable(patient, "_stext") - patient.healthy.page_offset) // PAGE_SIZE + 5


def text_given_away(patient: Patient) -> str:
    pfn = _text_pfn(patient)
    set_flag(patient, pfn, "PG_reserved", on=False)
    return f"pfn {pfn:#x}"


def text_put_once_too_often(patient: Patient) -> str:
    pfn = _text_pfn(patient)
    patient.write(page_word(patient, pfn, "_refcount"), 0)
    return f"pfn {pfn:#x}"


def page_put_too_often(patient: Patient) -> str:
    """The last page in use that is no page table's: of some process, or of the page cache."""
    memmap = patient.healthy.memmap
    plain = (memmap.refcount == 1) & (memmap.mapcount == -1) & ~memmap.has_flag("PG_reserved", "PG_slab")
    tables = [space.walk.tables.physical for space in patient.healthy.address_spaces]
    plain[(np.concatenate(tables) // np.uint64(PAGE_SIZE)).astype(np.int64)] = False
    plain[patient.healthy.pkmap_pfns] = False
    pfn = int(np.flatnonzero(plain)[-1])
    patient.write(page_word(patient, pfn, "_refcount"), -5)
    return f"pfn {pfn:#x}"


BREAKS = (
    Break("memmap.zone", used_page_in_wrong_zone),
    Break("memmap.zone", free_page_in_wrong_zone),
    Break("memmap.zone", per_cpu_page_in_wrong_zone),
    Break("memmap.holes-reserved", hole_given_away),
    Break("memmap.holes-reserved", hole_taken),
    Break("memmap.image-reserved", text_given_away),
    Break("memmap.image-reserved", text_put_once_too_often),
    Break("memmap.refcount-not-negative", page_put_too_often),
)
