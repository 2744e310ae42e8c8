"""One virtual address through its page tables, every level shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmtools.errors import MemoryFault
from kvmtools.observe.paging.entry_bits import flags_text, is_leaf
from kvmtools.observe.paging.forms import NO_EXECUTE, PRESENT, USER, WRITABLE, Form, Level

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory


NOT_MAPPED = (1 << 64) - 1
"""In the place of one of many physical addresses: the processor would fault, or a table lies outside RAM."""


@dataclass(frozen=True)
class Step:
    """What one level has to say: the raw ``entry`` at ``index`` of the table at physical address ``table``.

    ``entry`` is ``None`` if the table lies outside RAM.
    """

    name: str
    level: int
    table: int
    index: int
    entry: int | None
    flags: str


@dataclass(frozen=True)
class Translation:
    """The way of ``virtual`` through the tables, top level first, and where it ends.

    Either ``fault`` is ``None`` and ``physical`` (of this very byte) and ``size`` (of the page) are known, or
    ``fault`` says why there is no page.  The permissions are effective and false without a page.
    """

    virtual: int
    steps: tuple[Step, ...]
    physical: int | None
    size: int
    writable: bool
    user: bool
    executable: bool
    fault: str | None


def translate(memory: PhysicalMemory, cr3: int, virtual: int, form: Form) -> Translation:
    """Walk ``virtual`` down from ``cr3`` as the processor would (SDM vol. 3A, 4.7: what faults, and why).

    :param form: how the processor reads its tables (:func:`kvmtools.observe.paging.forms.on_processor`)
    :raises MemoryFault: if a table lies in RAM that a snapshot has not captured
    """
    table, granted = cr3 & form.cr3, WRITABLE | USER
    steps: list[Step] = []
    for level in form.levels:
        step = _read_step(memory, table, virtual, level, form)
        steps.append(step)
        if step.entry is None:
            return _fault(virtual, steps, f"the {level.name} table at {table:#x} lies outside RAM")
        entry = step.entry
        if not entry & PRESENT:
            return _fault(virtual, steps, f"not present in the {level.name}")
        leaf = is_leaf(entry, level)
        large = leaf and bool(level.large)
        reserved = entry & (level.large_reserved if large else level.reserved)
        if reserved:
            return _fault(virtual, steps, f"reserved bits {reserved:#x} are set in the {level.name}")
        if level.permissions:
            granted = (granted & entry & (WRITABLE | USER)) | ((granted | entry) & NO_EXECUTE)
        if leaf:
            return Translation(
                virtual,
                tuple(steps),
                physical=_page(entry, level) + virtual % level.span,
                size=level.span,
                writable=bool(granted & WRITABLE),
                user=bool(granted & USER),
                executable=not granted & NO_EXECUTE,
                fault=None,
            )
        table = entry & level.address
    raise AssertionError("the last level of a paging form holds leaves only")


def is_ram(memory: PhysicalMemory, address: int) -> bool:
    """Whether the guest has RAM there, captured or not."""
    return any(address in ram for ram in memory.ranges)


def _read_step(memory: PhysicalMemory, table: int, virtual: int, level: Level, form: Form) -> Step:
    index = virtual >> level.shift & level.entries - 1
    try:
        raw = memory.read(table + index * form.entry_size, form.entry_size)
    except MemoryFault as fault:
        if is_ram(memory, fault.address):
            raise
        return Step(level.name, level.number, table, index, None, "outside RAM")
    entry = int.from_bytes(raw, "little")
    return Step(level.name, level.number, table, index, entry, flags_text(entry, level.number, form))


def _page(entry: int, level: Level) -> int:
    return sum((entry & mask) << shift for mask, shift in level.large or ((level.address, 0),))


def _fault(virtual: int, steps: list[Step], reason: str) -> Translation:
    return Translation(virtual, tuple(steps), None, 0, False, False, False, reason)
