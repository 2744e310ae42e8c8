"""Breaks of the boundaries that the kernel writes down."""

from __future__ import annotations

from breaks.patient import Break, Patient, variable


def max_pfn_moved(patient: Patient) -> str:
    address = variable(patient, "max_pfn")
    patient.write(address, patient.read(address) + 1)
    return "field max_pfn"


def max_low_pfn_moved(patient: Patient) -> str:
    address = variable(patient, "max_low_pfn")
    patient.write(address, patient.read(address) - 1)
    return "field max_low_pfn"


def max_mapnr_moved(patient: Patient) -> str:
    address = variable(patient, "max_mapnr")
    patient.write(address, patient.read(address) + 1)
    return "field max_mapnr"


def fixmap_above_its_top(patient: Patient) -> str:
    patient.write(variable(patient, "__FIXADDR_TOP"), 0xFF00_0000)
    return "field fixaddr_top"


BREAKS = (
    Break("layout.matches-model", max_pfn_moved),
    Break("layout.matches-model", max_low_pfn_moved),
    Break("layout.matches-model", max_mapnr_moved),
    Break("layout.matches-model", fixmap_above_its_top),
)
