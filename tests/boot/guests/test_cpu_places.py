"""Where a guest stands that does not answer: its registers, and symbols wherever KASLR put the kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from guest_place import Place

from kvmtools.attach.elf import ElfFile
from kvmtools.boot.guests import cpu_places, lifecycle, readiness
from kvmtools.errors import AttachError

PAGE_OFFSET = 0xC000_0000
SOURCE = """
const char linux_banner[] = "Linux version 9.9 (of a test)\\n";
const char format[] = "Kernel panic - not syncing: %s\\n";
char log_buffer[4096];
__attribute__((noinline)) int before(int x) { return 3 * x; }
__attribute__((noinline)) void calibrate(void) { for (;;) __asm__ volatile("pause"); }
int _start(void) { calibrate(); return before(2); }
"""
# Where kernels are: linked to 0xc1000000, loaded to 16 MiB.
SCRIPT = """
SECTIONS {
  . = 0xc1000000;
  .text : AT(ADDR(.text) - 0xc0000000) { *(.text*) }
  .rodata : AT(ADDR(.rodata) - 0xc0000000) { *(.rodata*) }
  .bss : AT(ADDR(.bss) - 0xc0000000) { *(.bss*) *(COMMON) }
}
"""


@pytest.fixture
def vmlinux(tmp_path: Path) -> Path:
    (tmp_path / "kernel.c").write_text(SOURCE)
    (tmp_path / "kernel.lds").write_text(SCRIPT)
    output = tmp_path / "linked"
    flags = (
        "-m32",
        "-O1",
        "-nostdlib",
        "-static",
        "-ffreestanding",
        "-fno-pic",
        "-no-pie",
        "-fno-stack-protector",
    )
    more = ("-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", f"-Wl,-T,{tmp_path / 'kernel.lds'}")
    subprocess.run(["gcc", *flags, *more, "-o", output, tmp_path / "kernel.c"], check=True)
    return output


def address_of(path: Path, name: str) -> int:
    listing = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
    return int(next(line.split()[0] for line in listing.splitlines() if line.endswith(f" {name}")), 16)


def registers(*cpus: tuple[int, int, int]) -> str:
    """``info registers -a`` of CPUs with (eip, cr0, hlt)."""
    return "".join(
        f"\r\nCPU#{number}\r\nEAX=00000000\r\n"
        f"EIP={eip:08x} EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT={halted}\r\n"
        f"CR0={cr0:08x} CR2=00000000 CR3=01a6f000 CR4=00000690\r\n"
        for number, (eip, cr0, halted) in enumerate(cpus)
    )


Started = Callable[..., lifecycle.Guest]


@pytest.fixture
def booting(place: Place, vmlinux: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """A guest whose kernel lies ``slide`` bytes above where it was linked to, and whose CPUs are as given."""

    def start(*cpus: tuple[int, int, int], slide: int | None) -> lifecycle.Guest:
        monkeypatch.setenv("FAKE_QEMU_HMP", registers(*cpus))
        place.vmlinux = vmlinux
        guest = place.start()
        if slide is not None:
            os.truncate(guest.ram, 640 << 20)
            with vmlinux.open("rb") as file, guest.ram.open("r+b") as ram:
                elf = ElfFile(file.fileno())
                rodata = elf.section(".rodata")
                assert rodata is not None
                os.pwrite(ram.fileno(), elf.content(rodata), rodata.address - PAGE_OFFSET + slide)
        return guest

    return start


@pytest.mark.parametrize("slide", [0, 0x2000, 0x1200_0000])
def test_the_function_is_named_wherever_kaslr_put_it(booting: Started, vmlinux: Path, slide: int) -> None:
    at = address_of(vmlinux, "calibrate") + 2
    guest = booting((at + slide, 0x80050033, 0), (at + slide - PAGE_OFFSET, 0x11, 0), slide=slide)
    paged, unpaged = cpu_places.tell(guest).split("; ")
    assert paged == f"CPU 0 stands still at {at + slide:#x} (calibrate+0x2)"
    assert unpaged == f"CPU 1 stands still at {at + slide - PAGE_OFFSET:#x} (calibrate+0x2)"
    lifecycle.stop(guest)


def test_a_panic_that_could_not_be_printed_is_told(booting: Started, vmlinux: Path) -> None:
    at = address_of(vmlinux, "calibrate")
    guest = booting((at, 0x80050033, 0), slide=0)
    assert "panic" not in cpu_places.tell(guest), "its format is in every kernel"
    with guest.ram.open("r+b") as ram:
        panic = b"Kernel panic - not syncing: ERROR: Failed to allocate 0x1000 bytes"
        os.pwrite(ram.fileno(), panic + b"\nnext", address_of(vmlinux, "log_buffer") - PAGE_OFFSET)
    assert cpu_places.tell(guest).startswith(f"{panic.decode()}; CPU 0 stands still at ")
    assert lifecycle.state(guest).panic == panic.decode()
    guest.console.write_text("Linux version 9.9\n")
    assert lifecycle.state(guest).panic == "", "what it prints is believed before what lies in its memory"
    lifecycle.stop(guest)


def test_what_is_not_the_kernel_has_no_name(booting: Started) -> None:
    guest = booting((0xFD09A, 0x10, 0), (0x08048000, 0x80050033, 1), slide=0)
    assert cpu_places.tell(guest) == (
        "CPU 0 stands still at 0xfd09a, in the firmware or the kernel's boot code (paging is off);"
        " CPU 1 is halted at 0x8048000"
    )
    lifecycle.stop(guest)


def test_a_kernel_that_is_not_unpacked_yet_has_no_names(booting: Started, vmlinux: Path) -> None:
    at = address_of(vmlinux, "calibrate")
    guest = booting((at, 0x80050033, 0), slide=None)
    assert cpu_places.tell(guest) == f"CPU 0 stands still at {at:#x}"
    lifecycle.stop(guest)


def test_a_vmlinux_that_is_none_costs_only_the_name(booting: Started, vmlinux: Path) -> None:
    guest = booting((0xC1000000, 0x80050033, 0), slide=0)
    vmlinux.write_bytes(b"no ELF file")
    assert cpu_places.tell(guest) == "CPU 0 stands still at 0xc1000000"
    vmlinux.unlink()
    assert cpu_places.tell(guest) == "CPU 0 stands still at 0xc1000000"
    lifecycle.stop(guest)


def test_a_start_that_takes_too_long_says_where_the_guest_is(booting: Started, vmlinux: Path) -> None:
    at = address_of(vmlinux, "calibrate")
    guest = booting((at, 0x80050033, 0), slide=0)
    with pytest.raises(
        AttachError, match=r"the console is empty; CPU 0 stands still at .* \(calibrate\+0x0\)"
    ):
        readiness.wait(guest, has_agent=True, seconds=0.5, progress=lambda _line: None)
    lifecycle.stop(guest)
