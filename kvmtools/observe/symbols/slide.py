"""Find the kernel in the guest's memory: by how much KASLR moved it, and whether it is the one of this
vmlinux at all.

The slide is ``SYMBOL(_stext)`` of VMCOREINFO minus ``_stext`` of the vmlinux where the note can be had, else
it is searched for; either way nothing is believed until the kernel's banner and its build id stand in memory
where that slide puts them.  On i386 the image moves as a whole, so the virtual and the physical slide are
equal (arch/x86/boot/compressed/kaslr.c, ``choose_random_location``).

A reboot need not overwrite the kernel that ran before, and KASLR puts the next one elsewhere: then banner and build id
stand in two places, and the CPUs have to say which of them they run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kvmtools.attach.elf import ElfError, build_id_among, parse_notes
from kvmtools.errors import MemoryFault, SymbolsError
from kvmtools.observe.symbols.running import SEARCH_END, runs_on
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Registers

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory

#: ``CONFIG_PHYSICAL_ALIGN``: 2 MiB by default, 8 KiB at least (arch/x86/Kconfig); coarse steps find nearly
#: all.
ALIGNMENTS = (0x20_0000, 0x2000)

_NOTES = ("__start_notes", "__stop_notes")


def find_slide(
    memory: PhysicalMemory,
    vmlinux: Vmlinux,
    vmcoreinfo: str | None = None,
    registers: Sequence[Registers] = (),
) -> int:
    """By how much the kernel of ``vmlinux`` was moved in ``memory``.

    :param vmcoreinfo: text of the VMCOREINFO note, if the target has one
    :param registers: every CPU's, if they can be had: they tell the kernel that runs from the remains of earlier boots
    :raises SymbolsError: if the vmlinux is another kernel's (both build ids are named), no kernel is there, none is
        entered yet, none that a CPU runs, or several and nothing tells which of them runs
    """
    users: dict[int, list[bool | None]] = {}
    for alignment in ALIGNMENTS:
        for slide in _candidates(memory, vmlinux, vmcoreinfo, alignment):
            if slide in users or not _is_at(memory, vmlinux, slide):
                continue
            users[slide] = [runs_on(memory, vmlinux, slide, cpu) for cpu in registers]
            if _all_run_on(registers, users[slide]):
                return slide
        if users and not _all_run_elsewhere(users.values()):
            break
    if not users:
        demand_paging(registers)
        raise _refusal(memory, vmlinux, vmcoreinfo)
    return _the_one_that_runs(users)


def demand_paging(registers: Sequence[Registers]) -> None:
    """
    :raises SymbolsError: if no CPU pages: what a decompressor has unpacked is neither in its place yet, nor whole
    """
    if registers and not any(cpu.paged for cpu in registers):
        raise SymbolsError(
            "no kernel runs in the guest yet: no CPU has turned paging on",
            hint="the firmware, the boot loader or the kernel's decompressor is at work: wait a little",
        )


def _all_run_on(registers: Sequence[Registers], answers: list[bool | None]) -> bool:
    """Whether no CPU is left for another kernel: those that do not page run none."""
    started = [answer for cpu, answer in zip(registers, answers, strict=True) if cpu.paged]
    return bool(started) and all(started)


def _all_run_elsewhere(users: Iterable[list[bool | None]]) -> bool:
    return all(answers and all(answer is False for answer in answers) for answers in users)


def _the_one_that_runs(users: dict[int, list[bool | None]]) -> int:
    """The slide whose image runs, by what each CPU says of each; a CPU that says nothing is no reason to refuse."""
    running = {slide: answers for slide, answers in users.items() if any(answers)}
    if not running and _all_run_elsewhere(users.values()):
        raise SymbolsError(
            f"the kernel of this vmlinux lies in memory at {_slides(users)}, but no CPU runs it",
            hint="an earlier boot left it, or it is not yet entered: wait, or give the vmlinux of the kernel that runs",
        )
    candidates = running or users
    if len(candidates) > 1:
        who = "different CPUs run them" if running else "nothing tells which of them runs"
        raise SymbolsError(
            f"the kernel of this vmlinux lies in memory {len(candidates)} times, at {_slides(candidates)}, and {who}",
            hint="remains of an earlier boot? the registers of a running guest, or in a QEMU core, tell them apart",
        )
    return next(iter(candidates))


def _slides(slides: Iterable[int]) -> str:
    named = " and ".join(f"{slide:#x}" for slide in sorted(slides))
    return f"KASLR slide{'s' * (' and ' in named)} {named}"


def _candidates(
    memory: PhysicalMemory, vmlinux: Vmlinux, vmcoreinfo: str | None, alignment: int
) -> Iterator[int]:
    """Slides worth a look: what the note says, which a later boot may have left stale, and all that are aligned."""
    noted = re.search(r"^SYMBOL\(_stext\)=([0-9a-f]+)$", vmcoreinfo or "", re.MULTILINE)
    if noted and vmlinux.has_symbol("_stext"):
        yield int(noted[1], 16) - vmlinux.symbol("_stext")
    end = min(SEARCH_END, memory.ranges[-1].end if memory.ranges else 0)
    banner = vmlinux.symbol("linux_banner") - vmlinux.page_offset
    yield from range(0, end - banner, alignment)


def _is_at(memory: PhysicalMemory, vmlinux: Vmlinux, slide: int) -> bool:
    """Whether the image stands at ``slide``: its banner, and the build id in its notes."""
    physical = slide - vmlinux.page_offset
    banner = vmlinux.banner
    try:
        if (
            banner is not None
            and memory.view(vmlinux.symbol("linux_banner") + physical, len(banner) + 1) != banner + b"\0"
        ):
            return False
        if vmlinux.build_id.startswith("sha256-") or not all(map(vmlinux.has_symbol, _NOTES)):
            # No build id, or nobody says where it is: the banner, with its time of build, has to do.
            return banner is not None
        start, stop = map(vmlinux.symbol, _NOTES)
        return build_id_among(parse_notes(memory.read(start + physical, stop - start))) == vmlinux.build_id
    except (MemoryFault, ElfError):
        return False


def _refusal(memory: PhysicalMemory, vmlinux: Vmlinux, vmcoreinfo: str | None) -> SymbolsError:
    guest = guest_identity(memory, vmcoreinfo)
    if guest == f"has {vmlinux.build_id}":
        return SymbolsError(
            f"the guest's kernel has this vmlinux's build id, {vmlinux.build_id}, but its image is nowhere in memory",
            hint="were its banner or its notes overwritten? is the vmlinux the file that was booted, unchanged?",
        )
    if guest is None:
        return SymbolsError(
            "no Linux kernel is recognised in the guest's memory",
            hint="has it booted yet? is it an i386 kernel?",
        )
    return SymbolsError(
        f"this vmlinux is not the guest's kernel: its build id is {vmlinux.build_id}, the guest {guest}",
        hint="give the vmlinux that the guest was booted from",
    )


def guest_identity(memory: PhysicalMemory, vmcoreinfo: str | None) -> str | None:
    """Which kernel the guest runs, from its own words: a build id, else its banner; ``None`` if neither is found."""
    from kvmtools.observe.symbols.in_memory import kernels_in  # seldom needed

    banner = ""
    for each in kernels_in(memory, vmcoreinfo):
        if not each.banner:
            return f"has {each.build_id}"
        banner = banner or each.banner
    return f"says {banner!r}" if banner else None
