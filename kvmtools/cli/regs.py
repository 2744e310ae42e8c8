"""``kvmtools regs``: what decides how each vCPU sees memory."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.session import Session, attached
from kvmtools.errors import AttachError, GuestVanished, MemoryFault
from kvmtools.show.tables import columns, hexadecimal, table

if TYPE_CHECKING:
    from kvmtools.records import Registers

# Intel SDM vol. 3A, 2.5; EFER is an MSR, 2.2.1.
_CR0_PAGING, _CR0_WRITE_PROTECT = 1 << 31, 1 << 16
_CR4_PSE, _CR4_PAE, _CR4_PGE = 1 << 4, 1 << 5, 1 << 7
_EFER_NXE = 1 << 11
_COLUMNS = columns(">cpu eip where cr0 cr3 page_table cr4 efer paging")


@click.command()
@target_options
@format_option
def command(options: TargetOptions, form: str) -> None:
    """Show every vCPU's EIP, CR0, CR3, CR4 and EFER, its paging mode, and whose page table CR3 leads to.

    Where the guest has a GDB socket, the registers come from it and are cross-checked with QMP's; both are
    read while the guest is held. With --no-pause QMP alone is asked, for a gdb stops the guest.

    \b
    kvmtools regs -g pae
    kvmtools regs --qemu qmp.sock --gdb gdb.sock -s vmlinux --format json
    """
    with attached(options) as session:
        with suppress(MemoryFault):  # so that the vmlinux has been asked before the guest is held
            _described(session, session.target.registers())
        with session.target.paused():
            read = _read(session, options)
            rows = _described(session, read.registers)
    if form == "json":
        emit_json("regs", source=read.source, disagreements=list(read.disagreements), vcpus=rows)
    else:
        names = ("cpu", "eip", "region", "cr0", "cr3", "page_table", "cr4", "efer", "paging")
        emit(
            table(_COLUMNS, ([row[name] if row[name] is not None else "?" for name in names] for row in rows))
        )
        emit(f"\nread by {read.source}")
        for line in read.disagreements:
            note(f"GDB and QMP disagree: {line}")


@dataclass(frozen=True, slots=True)
class _Reading:
    registers: tuple[Registers, ...]
    source: str
    disagreements: tuple[str, ...]


def _read(session: Session, options: TargetOptions) -> _Reading:
    """Both sources if there are two.

    :raises AttachError: if a gdb socket that was named cannot serve
    """
    from kvmtools.attach.monitor.registers import disagreements

    by_target = session.target.registers()
    if session.target.monitor is None:
        return _Reading(by_target, "the core's notes", ())
    if not options.pause:
        return _Reading(by_target, "QMP alone: gdb would stop the guest, which --no-pause forbids", ())
    try:
        with session.target.gdb() as gdb:
            by_gdb = gdb.registers()
    except GuestVanished:
        raise
    except AttachError as error:
        if options.gdb is not None:
            raise
        return _Reading(by_target, f"QMP alone: {error.message}", ())
    different = disagreements(by_gdb, by_target)
    return _Reading(by_gdb, "GDB, and QMP " + ("disagrees" if different else "agrees"), different)


def _described(session: Session, registers: tuple[Registers, ...]) -> list[dict[str, Any]]:
    from kvmtools.observe.boot.configuration import observe_configuration
    from kvmtools.observe.space.layout import observe_layout
    from kvmtools.observe.space.regions import regions_of
    from kvmtools.observe.tasks.page_table_owner import page_table_owner
    from kvmtools.observe.tasks.processes import observe_processes

    kernel = session.kernel
    regions = regions_of(kernel, observe_layout(kernel))
    processes = observe_processes(kernel)
    pti = observe_configuration(kernel).pti
    return [
        {
            "cpu": one.cpu,
            "eip": hexadecimal(one.eip),
            "region": regions.describe(one.eip),
            "cr0": hexadecimal(one.cr0),
            "cr3": hexadecimal(one.cr3),
            "page_table": page_table_owner(kernel, one.cr3, processes, pti=pti),
            "cr4": hexadecimal(one.cr4),
            "efer": hexadecimal(one.efer),
            "paging": paging_mode(one),
        }
        for one in registers
    ]


def paging_mode(registers: Registers) -> str:
    """The mode and what bears on permissions: ``"PAE, NX, global, WP"``."""
    if not registers.cr0 & _CR0_PAGING:
        return "off"
    pae = registers.cr4 & _CR4_PAE
    traits = {
        "PAE" if pae else "32-bit": True,
        "4 MiB pages": not pae and registers.cr4 & _CR4_PSE,
        "NX": pae and registers.efer is not None and registers.efer & _EFER_NXE,
        "global": registers.cr4 & _CR4_PGE,
        "WP": registers.cr0 & _CR0_WRITE_PROTECT,
    }
    return ", ".join(name for name, there in traits.items() if there)
