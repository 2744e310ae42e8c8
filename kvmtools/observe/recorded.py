"""A recorded guest's kernel: it is where the recording says, and its vmlinux is known without the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.errors import SymbolsError
from kvmtools.observe.kernel import Kernel, kernel_at
from kvmtools.observe.symbols.vmlinux import Vmlinux

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory
    from kvmtools.attach.recording import Recording


def recorded_kernel(memory: PhysicalMemory, recording: Recording, vmlinux: Path | None = None) -> Kernel:
    """The kernel in a recording.

    :param vmlinux: the file, for what was not asked when it was recorded
    :raises SymbolsError: if it is another kernel's, or the recorded facts are not whole
    """
    told = Vmlinux.from_json(recording.facts)
    if vmlinux is not None:
        given = Vmlinux.load(vmlinux)
        if given.build_id != told.build_id:
            raise SymbolsError(
                f"this vmlinux is not the recorded kernel: its build id is {given.build_id}, "
                f"the recording's {told.build_id}",
                hint="leave -s out: a recording needs none",
            )
        given.believe()
        told = given
    return kernel_at(recording.slide, memory, told)
