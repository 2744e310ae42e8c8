"""Breaks of the zones' spans and counts, and of the resource tree."""

from __future__ import annotations

from breaks.patient import Break, Patient, variable, zone_word
from kvmtools.observe.zones.zones import Zone
from kvmtools.records import PAGE_SIZE


def _zone(patient: Patient, name: str) -> Zone:
    return next(zone for zone in patient.healthy.populated_zones if zone.name == name)


def _change(patient: Patient, name: str, member: str, change: int) -> str:
    address = zone_word(patient, name, member)
    patient.write(address, patient.read(address) + change)
    return f"zone {name}"


def span_grown(patient: Patient) -> str:
    return _change(patient, "HIGHMEM", "spanned_pages", 1)


def more_managed_than_present(patient: Patient) -> str:
    zone = _zone(patient, "HIGHMEM")
    return _change(patient, "HIGHMEM", "managed_pages", zone.present - zone.managed + 1)


def page_no_longer_present(patient: Patient) -> str:
    return _change(patient, "NORMAL", "present_pages", -1)


def total_miscounted(patient: Patient) -> str:
    address = variable(patient, "_totalram_pages")
    patient.write(address, patient.read(address) + 1)
    return "field _totalram_pages"


def ram_cut_short(patient: Patient) -> str:
    """The last "System RAM" of the resource tree loses its last page."""
    place, end = _last_system_ram(patient)
    patient.write(place, end - PAGE_SIZE, patient.gdb("sizeof(((struct resource *)0)->end)"))
    pfn = (end + 1) // PAGE_SIZE
    return f"System RAM of /proc/iomem pfns [{pfn - 1:#x}, {pfn:#x})"


def _last_system_ram(patient: Patient) -> tuple[int, int]:
    """Where the end of the last "System RAM" stands, and what stands there."""
    at = {name: patient.gdb.offset("struct resource", name) for name in ("end", "name", "child", "sibling")}
    size = patient.gdb("sizeof(((struct resource *)0)->end)")
    address, found = patient.read(variable(patient, "iomem_resource") + at["child"]), 0
    while address:
        if patient.read(patient.read(address + at["name"]), 10) == int.from_bytes(b"System RAM", "little"):
            found = address + at["end"]
        address = patient.read(address + at["sibling"])
    return found, patient.read(found, size)


BREAKS = (
    Break("zones.spans", span_grown),
    Break("zones.counts-ordered", more_managed_than_present),
    Break("zones.present", page_no_longer_present),
    Break("zones.managed-total", total_miscounted),
    Break("zones.system-ram", ram_cut_short),
)
