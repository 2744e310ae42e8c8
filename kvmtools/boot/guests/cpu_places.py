"""Where the CPUs of a guest stand that does not answer: whether they run, and in which function of the kernel.

Nothing here needs a kernel that is up.  Where KASLR put it is where the text of its banner lies in memory, which no
relocation changes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kvmtools.attach.elf import PT_LOAD, ElfError, ElfFile
from kvmtools.attach.monitor import registers
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.record import Guest
from kvmtools.errors import KvmtoolsError
from kvmtools.records import PANIC_WORDS, Registers

_BETWEEN = 0.2  # seconds between two looks at the registers
_MOST = 4  # CPUs that are told of
_BANNER = b"Linux version "
_LONGEST_BANNER = 512
# Not the format, which is in the image of every kernel.
_PANIC = re.compile(PANIC_WORDS + rb"(?!%)[^\n\0]+")
# arch/x86/Kconfig: an i386 kernel is aligned to CONFIG_PHYSICAL_ALIGN, at least 8 KiB; KASLR stays below 512 MiB.
_ALIGNMENT = 0x2000
_HIGHEST = 512 << 20


@dataclass(frozen=True)
class LoadedKernel:
    """A vmlinux, and by how many bytes it was loaded above where it was linked to."""

    elf: ElfFile
    slide: int
    ram: Path

    def panic(self) -> str:
        """Why it panicked, as it noted in its log buffer, which is part of its image; ``""`` if it did not."""
        with suppress(OSError), self.ram.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            for segment in self.elf.segments:
                start = segment.physical + self.slide
                if segment.type != PT_LOAD or start >= end:
                    continue
                memory = os.pread(file.fileno(), min(segment.memory_size, end - start), start)
                if found := _PANIC.search(memory):
                    return found[0].decode(errors="replace")
        return ""

    def symbol(self, cpu: Registers) -> str:
        """``function+0x12``, or ``""`` if the CPU is not in the kernel's text."""
        linked = cpu.eip - self.slide
        if not cpu.paged:
            home = next((s for s in self.elf.segments if 0 <= linked - s.physical < s.memory_size), None)
            if home is None:
                return ""
            linked += home.virtual - home.physical
        with suppress(ElfError):
            if found := self.elf.nearest_symbol(linked):
                return f"{found[0]}+{found[1]:#x}"
        return ""


def tell(guest: Guest) -> str:
    """One clause about a panic and one about every CPU; ``""`` if QEMU does not say."""
    try:
        with QmpMonitor(str(guest.qmp), greeting_seconds=2.0) as monitor:
            status = monitor.status()
            before = monitor.hmp("info registers -a")
            time.sleep(_BETWEEN)
            after = monitor.hmp("info registers -a")
            cpus = registers.parse(after)
    except KvmtoolsError:
        return ""
    if status != "running":
        return f"the guest is {status}"
    with _kernel_of(guest) as kernel:
        panic = kernel.panic() if kernel else ""
        pairs = zip(_one_by_one(before), _one_by_one(after), strict=True)
        doing = (_doing(*pair) for pair in pairs)
        clauses = [_clause(cpu, what, kernel) for cpu, what in zip(cpus, doing, strict=True)]
        return "; ".join([panic, *clauses[:_MOST]] if panic else clauses[:_MOST])


def unprinted_panic(guest: Guest) -> str:
    """Why its kernel panicked before it could print; ``""`` if it did not, or if it printed anything."""
    with suppress(OSError):
        if not guest.console.stat().st_size:
            with _kernel_of(guest) as kernel:
                return kernel.panic() if kernel else ""
    return ""


@contextmanager
def _kernel_of(guest: Guest) -> Iterator[LoadedKernel | None]:
    with ExitStack() as stack:
        kernel = None
        with suppress(OSError, ElfError):
            descriptor = os.open(os.fspath(guest.vmlinux or ""), os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            kernel = loaded(ElfFile(descriptor), guest.ram)
        yield kernel


def _one_by_one(text: str) -> list[str]:
    return text.split("CPU#")[1:]


def _doing(before: str, after: str) -> str:
    """What a CPU does, by two looks at all of its registers."""
    if "HLT=1" in after:
        return "is halted"
    return "stands still" if before == after else "runs"


def loaded(elf: ElfFile, ram: Path) -> LoadedKernel | None:
    """Where ``elf`` lies in the RAM file of a guest that booted once; ``None`` if it is not there (yet).

    :raises ElfError: if ``elf`` is damaged
    :raises OSError: if the file cannot be read
    """
    rodata = elf.section(".rodata")
    content = elf.content(rodata) if rodata else b""
    at = content.find(_BANNER)
    if rodata is None or at < 0:
        return None
    banner = content[at : at + _LONGEST_BANNER].partition(b"\0")[0]
    linked = _physical(elf, rodata.address + at)
    if linked is None:
        return None
    with ram.open("rb") as file:
        end = min(_HIGHEST, os.fstat(file.fileno()).st_size - linked)
        for slide in range(0, end, _ALIGNMENT):
            if os.pread(file.fileno(), len(banner), linked + slide) == banner:
                return LoadedKernel(elf, slide, ram)
    return None


def _physical(elf: ElfFile, virtual: int) -> int | None:
    """Where an address is loaded to, without a slide; ``None`` if no segment has it."""
    for each in elf.segments:
        if each.type == PT_LOAD and 0 <= virtual - each.virtual < each.memory_size:
            return virtual - each.virtual + each.physical
    return None


def _clause(cpu: Registers, doing: str, kernel: LoadedKernel | None) -> str:
    symbol = kernel.symbol(cpu) if kernel else ""
    if symbol:
        where = f" ({symbol})"
    elif not cpu.paged:
        where = ", in the firmware or the kernel's boot code (paging is off)"
    else:
        where = ""
    return f"CPU {cpu.cpu} {doing} at {cpu.eip:#x}{where}"
