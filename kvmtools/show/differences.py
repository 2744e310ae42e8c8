"""What is different between two looks, in text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmtools.records import PAGE_SIZE
from kvmtools.show.printable import printable
from kvmtools.show.style import count
from kvmtools.show.tables import columns, permissions, size, table

_SIGNS = {"appeared": "+", "gone": "-", "changed": "~"}


def differences_text(found: Any) -> str:
    """A table for each kind of thing that is different; of what could not be compared, why.

    :param found: :class:`kvmtools.Differences`
    """
    parts = [_heading(found), *(part for part in _parts(found) if part)]
    if found.missing:
        parts.append(
            "not compared\n" + "\n".join(f"  {name}: {printable(why)}" for name, why in found.missing.items())
        )
    if not found:
        parts.append("nothing is different" + " in what could be compared" * bool(found.missing))
    return "\n\n".join(parts)


def _heading(found: Any) -> str:
    lines = [f"{sign} {printable(side.target)}" for sign, side in (("-", found.before), ("+", found.after))]
    if found.before.build_id != found.after.build_id:
        lines.append(
            f"other kernels: {printable(found.before.release)}, build id {found.before.build_id}, and "
            f"{printable(found.after.release)}, {found.after.build_id}"
        )
    if found.before.slide != found.after.slide:
        lines.append(f"other KASLR slides: {found.before.slide:#x} and {found.after.slide:#x}")
    return "\n".join(lines)


def _parts(found: Any) -> Iterator[str]:
    if found.mappings:
        yield table(columns("mappings >size before after region"), map(_mapping, found.mappings))
    if found.processes:
        yield table(columns("processes pid name >appeared >gone >changed"), map(_process, found.processes))
    if found.moved:
        yield table(columns("pages >number >size from to"), _flow(found))
    if found.slots or found.cursor:
        yield _pkmap(found)
    if found.zones:
        yield table(columns("zones of >before >after >change"), _zones(found))


def _mapping(each: Any) -> tuple[object, ...]:
    return (
        f"{_SIGNS[each.change]} {each.virtual:08x}-{each.end - 1:08x}",
        size(each.end - each.virtual),
        _place(each.before),
        _place(each.after),
        each.region,
    )


def _place(mapped: Any) -> str:
    if mapped is None:
        return "not mapped"
    return f"{mapped.physical:#011x} {permissions(mapped.writable, mapped.executable, mapped.user)}"


def _process(each: Any) -> tuple[object, ...]:
    sizes = [size(number) if number else "" for number in (each.appeared, each.gone, each.changed)]
    return (f"{_SIGNS[each.change]} {each.change}", each.pid, each.name, *sizes)


def _flow(found: Any) -> Iterator[tuple[object, ...]]:
    """The largest stream first."""
    streams = [
        (pages, before, after)
        for before, row in zip(found.states, found.flow.tolist(), strict=True)
        for after, pages in zip(found.states, row, strict=True)
        if pages and before != after
    ]
    for pages, before, after in sorted(streams, key=lambda stream: -stream[0]):
        yield ("~", f"{pages:,}", size(pages * PAGE_SIZE), before, after)


def _pkmap(found: Any) -> str:
    lines = []
    if found.slots:
        rows = (
            (each.slot, *each.counts, *(f"{pte:#x}" if pte else "-" for pte in each.ptes))
            for each in found.slots
        )
        heads = columns(">slot >count >now PTE now")
        lines.append(f"pkmap: {count(len(found.slots), 'slot')}\n{table(heads, rows)}")
    if found.cursor:
        lines.append("pkmap's cursor: {} → {}".format(*found.cursor))
    return "\n".join(lines)


def _zones(found: Any) -> Iterator[tuple[object, ...]]:
    for label, changes in found.zones.items():
        for each in changes:
            known = each.before is not None and each.after is not None
            yield (
                label,
                each.name,
                "" if each.before is None else f"{each.before:,}",
                "" if each.after is None else f"{each.after:,}",
                f"{each.after - each.before:+,}" if known else "",
            )
