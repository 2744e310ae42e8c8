"""Rules about the zones' spans and page counts, and about the RAM maps they come from."""

from __future__ import annotations

from kvmtools.compare import places, subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.observe.zones.zones import Zone
from kvmtools.records import Range, ZoneSpan

TOTAL = "_totalram_pages"
LOOK = "kvmtools zones; the e820 map and the zone ranges in the guest's boot log"


def _finding(case: Case, zone: Zone, member: str, expected: str, observed: str, raw: int) -> Finding:
    address = zone.address + case.vmlinux.offset("struct zone", member)
    size = case.vmlinux.sizeof("struct zone", member)
    return Finding(
        subjects.zone(zone.place.title),
        expected,
        observed,
        virtual=address,
        physical=case.physical(address),
        symbol=f"{zone.place.title}: {member}",
        raw=places.unsigned(raw, size),
    )


def spans(case: Case) -> Examination:
    """Each zone begins and ends where the model puts it."""
    predicted = {(span.node, span.name): span for span in case.prediction.zones}
    findings = []
    for zone in case.observed.zones:
        span = predicted[zone.place.node, zone.name]
        if zone.spanned == 0 and span.end_pfn == span.start_pfn:
            continue  # an empty zone's start means nothing
        expected, observed = (span.start_pfn, span.end_pfn), (zone.start_pfn, zone.end_pfn)
        if expected != observed:
            member = "zone_start_pfn" if expected[0] != observed[0] else "spanned_pages"
            raw = zone.start_pfn if member == "zone_start_pfn" else zone.spanned
            texts = [f"[{start:#x}, {end:#x})" for start, end in (expected, observed)]
            findings.append(_finding(case, zone, member, texts[0], texts[1], raw))
    return violations(len(case.observed.zones), findings, lambda found: found)


def counts_ordered(case: Case) -> Examination:
    """managed <= present <= spanned."""

    def spell(zone: Zone) -> Finding:
        member = "present_pages" if zone.present > zone.spanned else "managed_pages"
        numbers = f"managed {zone.managed}, present {zone.present}, spanned {zone.spanned}"
        raw = zone.present if member == "present_pages" else zone.managed
        return _finding(case, zone, member, "0 <= managed <= present <= spanned", numbers, raw)

    wrong = [zone for zone in case.observed.zones if not 0 <= zone.managed <= zone.present <= zone.spanned]
    return violations(len(case.observed.zones), wrong, spell)


def present(case: Case) -> Examination:
    """``present_pages`` counts the RAM in the zone's span."""
    expected = {
        zone.address: case.prediction.present(ZoneSpan(zone.name, zone.start_pfn, zone.end_pfn))
        for zone in case.observed.zones
    }

    def spell(zone: Zone) -> Finding:
        want = f"{expected[zone.address]} pages of RAM in [{zone.start_pfn:#x}, {zone.end_pfn:#x})"
        return _finding(case, zone, "present_pages", want, f"present_pages {zone.present}", zone.present)

    wrong = [zone for zone in case.observed.zones if zone.present != expected[zone.address]]
    return violations(len(case.observed.zones), wrong, spell)


def managed_total(case: Case) -> Examination:
    """The zones' managed pages add up to the kernel's total."""
    if not case.vmlinux.has_symbol(TOTAL):
        return Examination(
            0, skipped=f"this kernel keeps no total of its own ({TOTAL}): it adds the zones up"
        )
    total = case.word(case.address(TOTAL))
    managed = sum(zone.managed for zone in case.observed.zones)
    finding = Finding(
        subjects.field(TOTAL),
        f"{managed}, the sum of the zones' managed_pages",
        str(total),
        virtual=case.address(TOTAL),
        symbol=TOTAL,
        raw=total,
        touches=tuple(subjects.zone(zone.place.title) for zone in case.observed.zones),
        persists_as=f"off by {total - managed}",
    )
    return violations(1, [finding] if total != managed else [], lambda found: found)


def system_ram(case: Case) -> Examination:
    """The kernel's resource tree and its memblock say the same RAM as the model."""
    expected = case.ram_ranges
    seen = Examination(0)
    for name, ranges in case.observed_ram.items():

        def spell(row: tuple[str, Range], name: str = name) -> Finding:
            verb, pages = row
            text = f"pfns [{pages.start:#x}, {pages.end:#x})"
            if verb == "lacks":
                return Finding(f"{name} {text}", "System RAM", "not RAM", pfn=pages.start, symbol=name)
            return Finding(f"{name} {text}", "not RAM", "System RAM", pfn=pages.start, symbol=name)

        rows = [("lacks", pages) for pages in _without(expected, ranges)]
        rows += [("has", pages) for pages in _without(ranges, expected)]
        seen += violations(max(len(ranges), len(expected)), rows, spell)
    return seen


def _without(ranges: tuple[Range, ...], others: tuple[Range, ...]) -> list[Range]:
    """The parts of sorted ``ranges`` that none of ``others`` covers."""
    left = []
    for each in ranges:
        start = each.start
        for other in others:
            if other.end <= start or other.start >= each.end:
                continue
            if other.start > start:
                left.append(Range(start, other.start))
            start = other.end
        if start < each.end:
            left.append(Range(start, each.end))
    return left


RULES = (
    Rule(
        "zones.spans",
        "DMA ends at 16 MiB, NORMAL at max_low_pfn where HIGHMEM begins, HIGHMEM at max_pfn; each begins where the "
        "last one ended; of several nodes each has of every zone the part between its first and its last RAM",
        "zone_sizes_init: arch/x86/mm/init.c; free_area_init: mm/page_alloc.c, 6.1",
        "zones",
        LOOK,
        check=spans,
        about="struct zone",
        exceptions="kernelcore= and movablecore= cut MOVABLE out of the highest zone, in every node a part of it",
        invariants=(40,),
        needs=("zones",),
    ),
    Rule(
        "zones.counts-ordered",
        "managed_pages <= present_pages <= spanned_pages",
        "struct zone: include/linux/mmzone.h, 6.1",
        "zones",
        LOOK,
        check=counts_ordered,
        about="struct zone",
        invariants=(39,),
        needs=("zones",),
        defers_to=("zones.spans",),
    ),
    Rule(
        "zones.present",
        "present_pages of a zone is the number of RAM pages in its span",
        "calculate_node_totalpages: mm/page_alloc.c, 6.1",
        "zones",
        LOOK,
        check=present,
        about="struct zone",
        invariants=(39,),
        needs=("zones",),
        defers_to=("zones.spans", "zones.counts-ordered"),
    ),
    Rule(
        "zones.managed-total",
        "the managed_pages of all zones add up to totalram_pages",
        "adjust_managed_page_count, free_all: mm/page_alloc.c, mm/memblock.c, 6.1",
        "sums",
        LOOK,
        check=managed_total,
        about="_totalram_pages",
        exceptions="between the two additions of adjust_managed_page_count (ballooning, freeing init memory)",
        invariants=(39,),
        needs=("zones",),
        defers_to=("zones.counts-ordered",),
    ),
    Rule(
        "zones.system-ram",
        "System RAM of /proc/iomem, rounded inwards to pages, is the RAM that e820 and the command line leave",
        "e820__reserve_resources, e820__memblock_setup, trim_bios_range: arch/x86/kernel/e820.c, setup.c, 6.1",
        "ranges",
        "/proc/iomem in the guest and the e820 map in its boot log",
        check=system_ram,
        about="iomem_resource",
        invariants=(42,),
    ),
)
