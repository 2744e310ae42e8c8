"""Helpers for scripts of drgn on a 32-bit x86 kernel: page tables, pages, zones, pkmap, and whether all of it is as it
must be.

They take a :class:`drgn.Program` that kvmtools' plugin has prepared (any that
drgn opens on an i386 guest or its core), or objects of one; where ``prog`` comes first it may be left out.
A live guest is held for the milliseconds in which it is read, and runs on afterwards.
"""

from __future__ import annotations

from kvmtools.companions.drgn.helpers.page_tables import (
    for_each_mapping,
    for_each_mapping_run,
    open_kernel,
    read_physical,
    translate_address,
)
from kvmtools.companions.drgn.helpers.pages import (
    FreeBlock,
    KmapSlot,
    for_each_free_block,
    kernel_zones,
    page_in_full,
    page_state,
    page_states,
    pkmap_slots,
)
from kvmtools.companions.drgn.helpers.verdicts import check_kernel, kernel_layout

__all__ = (
    "FreeBlock",
    "KmapSlot",
    "check_kernel",
    "for_each_free_block",
    "for_each_mapping",
    "for_each_mapping_run",
    "kernel_layout",
    "kernel_zones",
    "open_kernel",
    "page_in_full",
    "page_state",
    "page_states",
    "pkmap_slots",
    "read_physical",
    "translate_address",
)
