"""A recorded guest's kernel without one of the names that its vmlinux was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from recorded_guest import RecordedGuest
from whole_memory import WholeMemory

from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import PARTS, Observed, observe, prepare
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


def says(text: str, name: str) -> bool:
    """Whether a text names the symbol, type or member."""
    return re.findall(r"\w+", name)[-1] in text


@dataclass(frozen=True)
class Asking:
    """A recorded guest, and what its capture and each part of what is observed ask of its vmlinux."""

    guest: RecordedGuest
    healthy: Observed
    captures: frozenset[str]
    parts: dict[str, frozenset[str]]

    def without(self, name: str) -> Observed:
        """What is observed without the name: what does not ask for it is as with it, and not decoded again."""
        kernel, memory = without(self.guest, name), self.guest.snapshot
        if name in self.captures:
            with prepare(kernel) as capture:
                memory = capture.take()
        lesser = Observed(kernel.with_memory(memory), self.guest.registers)
        vars(lesser).update(
            {part: vars(self.healthy)[part] for part, asked in self.parts.items() if name not in asked}
        )
        return lesser


def asking(guest: RecordedGuest) -> Asking:
    """What the guest's observation asks for."""
    kernel = without(guest, "")
    vmlinux = kernel.vmlinux
    assert isinstance(vmlinux, Asked)
    with vmlinux.noting() as captures, prepare(kernel) as capture:
        capture.take()
    parts = {}
    for part in PARTS:
        with vmlinux.noting() as asked:
            getattr(Observed(kernel.with_memory(guest.snapshot), guest.registers), part)
        parts[part] = frozenset(asked)
    healthy = observe(guest.kernel, guest.snapshot, guest.registers)
    return Asking(guest, healthy, frozenset(captures), parts)
