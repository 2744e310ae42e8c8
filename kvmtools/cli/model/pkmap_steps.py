"""What ``kvmtools model pkmap`` says after each line: as data, and as a picture that stays readable with 1024 slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kvmtools.cli.model.pkmap_script import DEADLOCK, ScriptedPkmap, code, parse
from kvmtools.show.drawing import slot_mark, slots_picture
from kvmtools.show.style import paint
from kvmtools.show.tables import hexadecimal

WIDTH = 64
"""Characters of a list; what does not fit is counted."""


def step(machine: ScriptedPkmap, number: int, text: str) -> dict[str, Any] | None:
    """Do one line; what it said, what came of it, and how things stand then.  ``None`` if there is nothing on it.

    :raises UsageError: if it makes no sense
    :raises KernelBug: if a BUG_ON holds
    """
    line = parse(text)
    if line is None:
        return None
    did = machine.do(line)
    table, threads = machine.threads.table, machine.threads
    return {
        "line": number,
        "text": code(text),
        "did": did,
        "cursor": table.last_pkmap_nr,
        "flushes": table.flushes,
        "lock": threads.owner.name if threads.owner else None,
        "used": [
            {
                "slot": slot,
                "virtual": hexadecimal(table.area.address_of(slot)),
                "count": count,
                "page": None if page is None else machine.number(page),
            }
            for slot, (count, page) in enumerate(zip(table.pkmap_count, table.ptes, strict=True))
            if count or page is not None
        ],
        "threads": [
            {
                "name": thread.name,
                "situation": machine.situation(thread),
                "maps": [*map(machine.number, thread.maps)],
            }
            for thread in threads.threads.values()
            if thread.section or thread.maps
        ],
        "deadlocked": threads.deadlocked,
    }


def drawn(machine: ScriptedPkmap, done: dict[str, Any]) -> Iterator[str]:
    """The step that was just done, and the slots as they are now."""
    table = machine.threads.table
    yield paint(f"{done['line']:>3}  {done['text']}", bold=True) + f"  → {done['did']}"
    marks = [
        slot_mark(count, page is not None) for count, page in zip(table.pkmap_count, table.ptes, strict=True)
    ]
    yield from slots_picture(marks, table.area.base, table.last_pkmap_nr)
    used = listed(f"{slot['slot']}: page {slot['page']}" for slot in done["used"])
    yield f"      slots {used}" if used else "      no slot is mapped"
    for thread in done["threads"]:
        pages = listed(map(str, thread["maps"]))
        yield f"      {thread['name']} {thread['situation']}" + (f"; has {pages}" if pages else "")
    yield f"      TLBs flushed: {done['flushes']}" + (f"; {DEADLOCK}" if done["deadlocked"] else "")


def listed(items: Iterable[str]) -> str:
    """As many items as a line can hold, and how many more there are."""
    every = list(items)
    shown = 0
    width = 0
    for item in every:
        width += len(item) + len(", ")
        if width > WIDTH:
            break
        shown += 1
    more = [f"and {len(every) - shown} more"] if shown < len(every) else []
    return ", ".join(every[:shown] + more)
