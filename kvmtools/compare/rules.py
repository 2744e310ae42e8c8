"""All rules, in the order in which they run and are reported."""

from __future__ import annotations

from kvmtools.compare import (
    rules_buddy,
    rules_guest,
    rules_hash,
    rules_layout,
    rules_legacy,
    rules_memmap,
    rules_pagetable,
    rules_pcp,
    rules_permissions,
    rules_pkmap,
    rules_pkmap_use,
    rules_tables,
    rules_walkers,
    rules_zones,
)
from kvmtools.compare.rule import Rule

RULES: tuple[Rule, ...] = (
    *rules_guest.RULES,
    *rules_layout.RULES,
    *rules_pagetable.RULES,
    *rules_permissions.RULES,
    *rules_walkers.RULES,
    *rules_tables.RULES,
    *rules_pkmap.RULES,
    *rules_pkmap_use.RULES,
    *rules_hash.RULES,
    *rules_legacy.RULES,
    *rules_memmap.RULES,
    *rules_zones.RULES,
    *rules_buddy.RULES,
    *rules_pcp.RULES,
)
