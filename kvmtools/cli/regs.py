"""``kvmtools regs``: what decides how each vCPU sees memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.show.gaps import Gaps
from kvmtools.show.registers import registers_text
from kvmtools.show.tables import hexadecimal

if TYPE_CHECKING:
    from kvmtools.api.registers import Vcpu


@click.command()
@target_options
@format_option
def command(options: TargetOptions, form: str) -> None:
    """Show every vCPU's EIP, CR0, CR3, CR4 and EFER, its paging mode, and whose page table CR3 leads to.

    The registers come from QEMU's gdbstub and are cross-checked with its monitor's; both are read while the guest is
    held. Where QEMU serves no gdb, one is opened for that moment. With --no-pause the monitor alone is asked, for a gdb
    stops the guest.

    \b
    kvmtools regs -g pae
    kvmtools regs --qemu qmp.sock --gdb gdb.sock -s vmlinux --format json
    """
    with options.open() as kernel:
        found = kernel.regs()
        said = consistency(kernel, form)
    if form == "json":
        gaps = Gaps()
        vcpus = [_json(one, gaps) for one in found.vcpus]
        disagreements = list(found.disagreements)
        missing = gaps.document()
        emit_json("regs", source=found.source, disagreements=disagreements, vcpus=vcpus, **missing, **said)
        return
    emit(registers_text(found))
    for line in found.disagreements:
        note(f"GDB and QEMU's monitor disagree: {line}")


def _json(one: Vcpu, gaps: Gaps) -> dict[str, Any]:
    return {
        "cpu": one.cpu,
        "eip": hexadecimal(one.eip),
        "region": one.region,
        "cr0": hexadecimal(one.cr0),
        "cr3": hexadecimal(one.cr3),
        "page_table": gaps.get(one, "page_table"),
        "cr4": hexadecimal(one.cr4),
        "efer": hexadecimal(one.efer),
        "paging": one.paging,
    }
