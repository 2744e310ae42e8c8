"""What decides how each vCPU sees memory: its control registers, and whose page table CR3 leads to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

from kvmtools.errors import Absent, AttachError, GuestVanished, MemoryFault, NotYet, Unobserved
from kvmtools.observe.partial import Partial, known
from kvmtools.records import Registers
from kvmtools.show.registers import paging_mode, registers_text
from kvmtools.show.style import uncoloured

if TYPE_CHECKING:
    from kvmtools.api.session import Session


@dataclass(frozen=True, kw_only=True)
class Vcpu(Registers, Partial):
    """One vCPU: ``cpu``, ``eip``, ``cr0``, ``cr3``, ``cr4``; ``efer`` and ``idt`` if the source has them."""

    region: str
    """The kernel's name for the place of EIP; where paging is off, ``"firmware, not started"`` or the like."""
    page_table: str
    """``"swapper_pg_dir"``, ``"pid 1 (init)"``, maybe with ``", user half"`` after it; ``"unknown"``; ``"none"``.
    A kernel that does not say what processes it has raises :exc:`~kvmtools.SymbolsError`."""

    @property
    def paging(self) -> str:
        """The paging mode and what bears on permissions: ``"PAE, NX, global, WP"``."""
        return paging_mode(self)


@dataclass(frozen=True, repr=False)
class Vcpus:
    """Every vCPU, in order; prints as ``kvmtools regs`` does."""

    vcpus: tuple[Vcpu, ...]
    source: str
    """Who was asked: ``"GDB, and QMP agrees"``, or QMP (or the human monitor) alone, and why."""
    disagreements: tuple[str, ...] = ()
    """Where GDB and QEMU's monitor differ, a line each."""

    def __len__(self) -> int:
        return len(self.vcpus)

    def __getitem__(self, cpu: int) -> Vcpu:
        return self.vcpus[cpu]

    def __repr__(self) -> str:
        return uncoloured(registers_text(self))


@dataclass(frozen=True, slots=True)
class _Reading:
    registers: tuple[Registers, ...]
    source: str
    disagreements: tuple[str, ...] = ()


def vcpus(session: Session, *, demand_gdb: bool) -> Vcpus:
    """Both sources if there are two, read while the guest is held.

    :param demand_gdb: whether a gdb socket that does not serve is an error
    :raises AttachError: if it is, and does not
    """
    with suppress(Unobserved):  # so that the vmlinux has been asked before the guest is held
        _described(session, session.target.registers())
    with session.target.paused() as pause:
        read = _read(session, demand_gdb=demand_gdb, runs=pause.was_running and not pause.held)
        found = _described(session, read.registers)
    session.pauses.append(pause)
    return Vcpus(found, read.source, read.disagreements)


def _read(session: Session, *, demand_gdb: bool, runs: bool) -> _Reading:
    from kvmtools.attach.monitor.registers import disagreements

    by_target = session.target.registers()
    if session.target.monitor is None:
        return _Reading(by_target, "the core's notes")
    name = session.target.monitor.name
    if runs:
        return _Reading(by_target, f"{name} alone: gdb would stop the guest, which --no-pause forbids")
    try:
        by_gdb = session.target.registers_by_gdb()
    except GuestVanished:
        raise
    except AttachError as error:
        if demand_gdb:
            raise
        return _Reading(by_target, f"{name} alone: {error.message}")
    different = disagreements(by_gdb, by_target)
    return _Reading(by_gdb, f"GDB, and {name} " + ("disagrees" if different else "agrees"), different)


def _described(session: Session, registers: tuple[Registers, ...]) -> tuple[Vcpu, ...]:
    from kvmtools.observe.boot.configuration import observe_configuration
    from kvmtools.observe.space.layout import observe_layout
    from kvmtools.observe.space.regions import regions_of
    from kvmtools.observe.space.unpaged import unpaged_place
    from kvmtools.observe.tasks.page_table_owner import UNKNOWN, page_table_owner
    from kvmtools.observe.tasks.processes import Process, observe_processes

    kernel = session.kernel
    regions = regions_of(kernel, observe_layout(kernel))
    processes: tuple[Process, ...] = ()
    pti, untold = False, list[Absent]()
    with suppress(MemoryFault, NotYet):
        try:
            processes = observe_processes(kernel)
        except Absent as reason:
            untold.append(reason)
    with suppress(Unobserved):
        pti = observe_configuration(kernel).pti

    def owner(cr3: int) -> str:
        name = page_table_owner(kernel, cr3, processes, pti=pti)
        if name == UNKNOWN and untold:
            raise untold[0]
        return name

    return tuple(
        Vcpu(
            **{field.name: getattr(one, field.name) for field in fields(Registers)},
            region=regions.describe(one.eip) if one.paged else unpaged_place(kernel, one),
            page_table=known(partial(owner, one.cr3), "task list") if one.paged else "none",
        )
        for one in registers
    )
