"""Breaks of the zones' spans and counts, and of the resource tree."""

from __future__ import annotations

from breaks.patient import Break, Patient
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.structure import Structure
from kvmtools.observe.zones.zones import Zone
from kvmtools.records import PAGE_SIZE


def _zone(patient: Patient, name: str) -> Zone:
    return next(zone for zone in patient.healthy.populated_zones if zone.name == name)


def _change(patient: Patient, name: str, member: str, change: int) -> str:
    address = _zone(patient, name).address + patient.healthy.vmlinux.offset("struct zone", member)
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
    address = patient.healthy.address("_totalram_pages")
    patient.write(address, patient.read(address) + 1)
    return "field _totalram_pages"


def zones_overlap(patient: Patient) -> str:
    _change(patient, "NORMAL", "spanned_pages", 1)
    return "zone HIGHMEM"


def ram_cut_short(patient: Patient) -> str:
    """The last "System RAM" of the resource tree loses its last page."""
    record = _last_system_ram(patient.healthy.observed.kernel)
    end = record.unsigned("end")
    size = patient.healthy.vmlinux.sizeof("struct resource", "end")
    patient.write(record.at("end"), end - PAGE_SIZE, size)
    pfn = (end + 1) // PAGE_SIZE
    return f"System RAM of /proc/iomem pfns [{pfn - 1:#x}, {pfn:#x})"


def _last_system_ram(kernel: Kernel) -> Structure:
    root = Structure(kernel, "struct resource", kernel.address("iomem_resource"))
    address, found = root.unsigned("child"), None
    while address:
        record = Structure(kernel, "struct resource", address)
        if kernel.read(record.unsigned("name"), 10) == b"System RAM":
            found = record
        address = record.unsigned("sibling")
    assert found is not None
    return found


BREAKS = (
    Break("zones.spans", span_grown),
    Break("zones.counts-ordered", more_managed_than_present),
    Break("zones.present", page_no_longer_present),
    Break("zones.managed-total", total_miscounted),
    Break("zones.system-ram", ram_cut_short),
)

ALONE = (Break("zones.disjoint", zones_overlap),)
