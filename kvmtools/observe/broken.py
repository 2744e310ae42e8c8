"""What of the guest could not be read: a pointer that leads nowhere, a list that does not end.

A tool that looks for damage must outlive it.  An observer that meets such a place notes it and goes on with what it
can read; what was noted is a finding of its own (``guest.readable``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kvmtools.errors import MemoryFault


@dataclass(frozen=True, slots=True)
class Broken:
    """A structure that could not be read, or not to its end."""

    structure: str
    """What was being read: ``mem_map``, ``pid 17``, ``zone NORMAL``."""
    member: str
    """Which part of it, in the kernel's words; empty if it is the whole."""
    address: int
    """Where reading failed, in ``space`` (``"virtual"`` or ``"physical"``)."""
    space: str
    reason: str


@contextmanager
def noted(broken: list[Broken] | None, structure: str, member: str = "") -> Iterator[None]:
    """Go on behind the ``with`` if something in it could not be read; ``broken`` takes what it was, if it is there."""
    try:
        yield
    except MemoryFault as fault:
        if broken is not None:
            add_broken(broken, structure, fault, member)


@contextmanager
def reading(structure: str) -> Iterator[None]:
    """Say what was being read of whatever cannot be read behind the ``with``; a decorator, too."""
    try:
        yield
    except MemoryFault as fault:
        fault.hint = fault.hint or f"reading {structure}"
        raise


def add_broken(broken: list[Broken], structure: str, fault: MemoryFault, member: str = "") -> None:
    """Append it, unless the same fault was met before: one structure may be what several others are read by."""
    if all(fault.message != each.reason for each in broken):
        broken.append(Broken(structure, member, fault.address, fault.space, fault.message))
