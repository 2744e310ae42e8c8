"""A recorded guest's kernel without one of the names that its vmlinux was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from recorded_guest import RecordedGuest
from whole_memory import WholeMemory

from kvmtools.observe.kernel import Kernel
from kvmtools.observe.symbols.vmlinux import Answer, Vmlinux


class Asked(Vmlinux):
    """The recorded facts, without ``missing``; :meth:`noting` says what was asked meanwhile."""

    def __init__(self, facts: Vmlinux, missing: str = "") -> None:
        answers = facts.to_json()["answers"]
        super().__init__(facts.build_id, answers | {missing: None} if missing else answers)
        self._notes: list[set[str]] = []

    @contextmanager
    def noting(self) -> Iterator[set[str]]:
        """The names that are asked within the ``with``."""
        note: set[str] = set()
        self._notes.append(note)
        yield note
        self._notes.remove(note)

    def _ask(self, question: str, *about: str) -> Answer:
        for note in self._notes:
            note.add(" ".join((question, *about)).rstrip())
        return super()._ask(question, *about)


def names(guest: RecordedGuest) -> list[str]:
    """What the vmlinux was asked for and has."""
    return [name for name, answer in guest.vmlinux.to_json()["answers"].items() if answer is not None]


def without(guest: RecordedGuest, name: str) -> Kernel:
    """The guest's kernel, in all of its memory, without the name; with none, a kernel that notes what is asked."""
    return replace(guest.kernel, vmlinux=Asked(guest.vmlinux, name), memory=WholeMemory(guest.snapshot))
