"""All rules, in the order in which they run and are reported."""

from __future__ import annotations

from kvmtools.compare.rule import Rule
from kvmtools.compare.rules import (
    buddy,
    guest,
    kmap_local,
    layout,
    memmap,
    page_address,
    page_tables,
    per_cpu_pages,
    permissions,
    pkmap,
    pkmap_use,
    table_pages,
    walkers,
    zones,
)

RULES: tuple[Rule, ...] = (
    *guest.RULES,
    *layout.RULES,
    *page_tables.RULES,
    *permissions.RULES,
    *walkers.RULES,
    *table_pages.RULES,
    *pkmap.RULES,
    *pkmap_use.RULES,
    *page_address.RULES,
    *kmap_local.RULES,
    *memmap.RULES,
    *zones.RULES,
    *buddy.RULES,
    *per_cpu_pages.RULES,
)
