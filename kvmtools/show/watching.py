"""A look at a live guest, as a screen or as a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kvmtools.show.gaps import UNKNOWN, Gaps
from kvmtools.show.pkmap import pkmap_picture
from kvmtools.show.printable import printable
from kvmtools.show.style import count, paint
from kvmtools.show.tables import columns, table

_BAR = 30
_FULL, _EMPTY = "█", "░"


def look_screen(look: Any, heading: str) -> str:
    """pkmap's picture, how full the zones are, and their free blocks by order.

    :param look: :class:`kvmtools.api.watching.Look`
    """
    gaps = Gaps()
    head = f"{printable(heading)}  look {look.number}, {look.seconds:.0f} s, held {look.milliseconds:.1f} ms"
    parts = [paint(head, bold=True)]
    if look.pkmap is not None:
        changes = f"{count(look.changed, 'slot')} changed since the last look, flushes seen: {look.flushes}"
        parts.append(f"{pkmap_picture(look.pkmap)}\n{changes}")
    zones = [zone for zone in look.zones if gaps.get(zone, "present") != 0]
    parts.append(table(columns("zone used >managed >free >per-CPU"), (_fill(zone, gaps) for zone in zones)))
    parts.append(_orders(zones, gaps))
    return "\n\n".join([*parts, *gaps.paragraph()])


def look_line(look: Any) -> str:
    """The same in one line, for a log."""
    gaps = Gaps()
    words = [f"{look.seconds:8.1f} s"]
    if look.pkmap is not None:
        counts = look.pkmap.area.counts.tolist()
        states = (
            f"{sum(number > 1 for number in counts)} in use",
            f"{counts.count(1)} unused",
            f"{counts.count(0)} free",
            f"{look.changed} changed",
        )
        words.append(f"pkmap {', '.join(states)}, flushes {look.flushes}")
    free = (
        f"{zone.place.label} {gaps.get(zone, 'free_pages'):,}"
        for zone in look.zones
        if gaps.get(zone, "present") and gaps.get(zone, "free_pages") is not None
    )
    return "  ".join((*words, f"free {', '.join(free)}", f"held {look.milliseconds:.1f} ms"))


def _fill(zone: Any, gaps: Gaps) -> Sequence[object]:
    managed, free, pcp = (gaps.get(zone, name) for name in ("managed", "free_pages", "pcp"))
    per_cpu = UNKNOWN if pcp is None else f"{sum(each.count for each in pcp):,}"
    if managed is None or free is None:
        return (zone.place.label, UNKNOWN, managed or UNKNOWN, free or UNKNOWN, per_cpu)
    return (zone.place.label, _bar(managed - free, managed), f"{managed:,}", f"{free:,}", per_cpu)


def _bar(used: int, total: int) -> str:
    """How much of it is used; a damaged guest may say more than all, or less than nothing."""
    share = min(1.0, max(0.0, used / total)) if total > 0 else 0.0
    cells = round(share * _BAR)
    return f"{_FULL * cells}{_EMPTY * (_BAR - cells)} {share:4.0%}"


def _orders(zones: Sequence[Any], gaps: Gaps) -> str:
    listed = [(zone.place.label, gaps.get(zone, "free_area")) for zone in zones]
    known = [(label, areas) for label, areas in listed if areas is not None]
    if not known:
        return ""
    orders = " ".join(f">{area.order}" for area in known[0][1])
    return table(columns(f"free_blocks {orders}"), _rows(known))


def _rows(known: Sequence[tuple[str, Any]]) -> Iterator[Sequence[object]]:
    for label, areas in known:
        yield (label, *(area.blocks for area in areas))
