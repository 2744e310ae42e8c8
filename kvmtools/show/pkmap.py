"""The slots of pkmap in text: a picture of all, and a line for each that is not empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from kvmtools.show.drawing import LEGEND, slot_mark, slots_picture
from kvmtools.show.gaps import UNKNOWN, Gaps
from kvmtools.show.style import paint
from kvmtools.show.tables import columns, hexadecimal, table

_USED = columns(">slot virtual >count >users pte >pfn page zone")
_LOCAL = columns(">cpu >index virtual pte >pfn")


def pkmap_text(slots: Any) -> str:
    """The picture, the slots in use, and those of ``kmap_local_page()``.

    :param slots: :class:`kvmtools.PkmapSlots`
    """
    gaps = Gaps()
    sections = ["\n".join(_picture(slots, gaps))]
    digits = 2 * slots.entry_size
    if slots.used:
        sections.append(table(_USED, [_used(slot, digits, gaps) for slot in slots.used]))
    if local := gaps.get(slots, "local"):
        rows = [_local(slot, digits, gaps) for slot in local]
        sections.append(f"kmap_local_page():\n{table(_LOCAL, rows)}")
    return "\n\n".join([*sections, *gaps.paragraph()])


def pkmap_picture(slots: Any) -> str:
    """The picture alone, with how many slots are in which state above it."""
    return "\n".join(_picture(slots, Gaps()))


def _picture(slots: Any, gaps: Gaps) -> Iterator[str]:
    area, counts = slots.area, slots.area.counts.tolist()
    base, cursor = gaps.get(area, "base"), gaps.get(area, "cursor")
    states = Counter("free" if not count else "unused" if count == 1 else "in use" for count in counts)
    place = UNKNOWN if base is None else f"{base:08x}"
    summary = ", ".join(f"{states[name]} {name}" for name in ("free", "unused", "in use"))
    at = UNKNOWN if cursor is None else cursor
    yield paint(f"pkmap at {place}: {len(counts)} slots, {summary}; cursor {at}", bold=True)
    yield from slots_picture(list(map(slot_mark, counts, slots.present)), base, cursor)
    yield paint(LEGEND, dim=True)


def _used(slot: Any, digits: int, gaps: Gaps) -> list[object]:
    virtual, page, zone = gaps.cells(slot, "virtual page zone")
    cells = [
        slot.slot, _address(virtual), slot.count, slot.users, hexadecimal(slot.pte, digits),
        slot.pfn, _address(page), zone,
    ]  # fmt: skip
    return ["-" if cell is None else cell for cell in cells]


def _address(cell: int | str | None) -> str | None:
    return cell if isinstance(cell, str) else hexadecimal(cell)


def _local(slot: Any, digits: int, gaps: Gaps) -> list[object]:
    cpu, index, virtual = gaps.cells(slot, "cpu index virtual")
    cells = [cpu, index, _address(virtual), hexadecimal(slot.pte, digits), slot.pfn]
    return ["-" if cell is None else cell for cell in cells]
