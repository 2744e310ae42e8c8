"""Ways to break a guest, each meant for one rule: a function that overwrites one structure.

A break works on anything that is a :class:`Patient`: a recorded guest, or a running one written to through gdb.  It
returns the subject of the finding that must come of it.
"""

from __future__ import annotations

from breaks import buddy, guest, hashing, layout, memmap, nodes, pagetable, pkmap, zones
from breaks.patient import Break, Patient

__all__ = ["BREAKS", "Break", "Patient"]

BREAKS: tuple[Break, ...] = (
    *guest.BREAKS,
    *layout.BREAKS,
    *pagetable.BREAKS,
    *pkmap.BREAKS,
    *hashing.BREAKS,
    *memmap.BREAKS,
    *nodes.BREAKS,
    *zones.BREAKS,
    *buddy.BREAKS,
)
"""Breaks after which one rule has one finding, and no other rule has any."""
