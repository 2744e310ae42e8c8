"""Which way to a live guest's memory: the fastest that works and has proved itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from kvmtools.attach import proof
from kvmtools.attach.memory import flat_view
from kvmtools.attach.memory.flat_view import Backed
from kvmtools.attach.memory.physical import FOUR_GIB, PhysicalMemory, SegmentedMemory
from kvmtools.attach.memory.proc_mem import ProcMem
from kvmtools.attach.memory.qmp_memory import PmemsaveMemory, XpMemory
from kvmtools.attach.memory.ram_file import RamFile
from kvmtools.attach.memory.stub_memory import StubMemory
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, GuestVanished, KvmtoolsError
from kvmtools.records import Range

Attempt = tuple[Callable[[], SegmentedMemory], int]
"""How to open a transport, and how many of its pages may be looked at to prove it: QEMU's own take a
millisecond each."""


def choose(monitor: Monitor, ram: Path | None = None, seed: int | None = None) -> tuple[PhysicalMemory, str]:
    """The memory of the guest behind ``monitor``, and one line: which transport, how proved, which others
    refused and why.

    :param ram: its shared RAM file; without one, QEMU is asked whether it has one
    :param seed: of the proof's choice of pages
    :raises AttachError: if QEMU does not tell where its RAM is
    :raises GuestVanished: if the guest ends meanwhile
    """
    backed = flat_view.ram(monitor)
    witness = XpMemory(monitor, [Range(b.start, b.end) for b in backed])
    refused: list[str] = []
    for attempt, tries in _attempts(monitor, ram, backed, witness.ranges):
        try:
            memory = attempt()
        except GuestVanished:
            raise
        except AttachError as error:
            refused.append(str(error))
            continue
        try:
            shown = proof.prove(memory, witness, tries=tries, seed=seed, suspected=memory.suspected)
            return memory, _line(memory.name, str(shown), refused)
        except BaseException as error:
            memory.close()
            if isinstance(error, GuestVanished) or not isinstance(error, KvmtoolsError):
                raise
            refused.append(str(error))
    return witness, _line(witness.name, "alone, with nothing to prove it against", refused)


def _attempts(
    monitor: Monitor, ram: Path | None, backed: Sequence[Backed], ranges: Sequence[Range]
) -> Iterator[Attempt]:
    path = ram or _shared_file(monitor, backed)
    if path is not None:
        yield partial(RamFile, path, backed), 96
    yield partial(ProcMem, monitor, backed), 192
    yield partial(PmemsaveMemory, monitor, ranges), 32
    if monitor.reads_memory:
        yield partial(StubMemory, monitor, ranges), 256
        if ranges[-1].end > FOUR_GIB:
            yield partial(StubMemory, monitor, ranges, XpMemory(monitor, ranges)), 32


def _shared_file(monitor: Monitor, backed: Sequence[Backed]) -> Path | None:
    """The file that QEMU shares its RAM through, if it does and we can see it."""
    name = backed[0].block.rpartition("/")[2]
    if monitor.backends().get(name):
        with suppress(AttachError):  # another kind of backend has no such property
            path = Path(monitor.property(f"/objects/{name}", "mem-path"))
            if path.is_absolute() and path.is_file():
                return path
    return None


def _line(name: str, shown: str, refused: Sequence[str]) -> str:
    return f"{name} ({'; '.join((shown, *(f'not used: {why}' for why in refused)))})"
