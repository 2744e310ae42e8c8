"""The QEMU command line, word by word where it matters."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.boot.guests.files import LONGEST_SOCKET_PATH, GuestFiles
from kvmtools.boot.guests.qemu_command import (
    CPU_MODELS,
    GIB,
    LARGEST_MEMORY,
    MIB,
    SMALLEST_MEMORY,
    QemuMachine,
    command,
    kernel_command_line,
    memory_bytes,
    memory_text,
)
from kvmtools.errors import UsageError


def machine(**changes: object) -> QemuMachine:
    """A plain machine, with some things about it changed."""
    plain: dict[str, object] = {
        "name": "pae",
        "accel": "tcg",
        "memory_bytes": 2 * GIB,
        "smp": 2,
        "ram": Path("/shm/pae.ram"),
        "files": GuestFiles(Path("/run/pae")),
        "bzimage": Path("/cache/bzImage"),
        "initrd": Path("/cache/initrd"),
        "append": "console=ttyS0",
    }
    return QemuMachine(**{**plain, **changes})  # type: ignore[arg-type]


def value_of(words: tuple[str, ...], option: str) -> list[str]:
    """Every value that follows ``option``."""
    return [after for word, after in pairwise(words) if word == option]


def test_what_is_booted_and_with_which_parameters() -> None:
    words = command(machine(append="console=ttyS0 quiet"))
    assert words[-6:] == (
        "-kernel", "/cache/bzImage", "-initrd", "/cache/initrd", "-append", "console=ttyS0 quiet",
    )  # fmt: skip
    assert command(machine(initrd=None))[-4:] == ("-kernel", "/cache/bzImage", "-append", "console=ttyS0")


def test_ram_is_one_shared_file_of_the_guests_size() -> None:
    words = command(machine(memory_bytes=6 * GIB))
    (ram,) = value_of(words, "-object")
    assert ram.split(",") == [
        "memory-backend-file",
        "id=ram",
        "share=on",
        "prealloc=off",
        f"size={6 * GIB}",
        "mem-path=/shm/pae.ram",
    ]
    assert value_of(words, "-m") == ["6144M"]
    assert value_of(words, "-machine") == ["pc,memory-backend=ram"]


def test_every_socket_is_a_unix_socket_in_the_guests_directory() -> None:
    words = command(machine())
    chardevs = value_of(words, "-chardev")
    sockets = [c for c in chardevs if c.startswith("socket,")]
    assert len(sockets) == 4
    assert all("path=/run/pae/" in c and c.endswith("server=on,wait=off") for c in sockets)
    assert value_of(words, "-mon") == ["chardev=qmp,mode=control", "chardev=drgn,mode=control"]
    assert value_of(words, "-gdb") == ["chardev:gdb"]


def test_the_console_is_a_16550_and_the_agent_a_virtio_port() -> None:
    words = command(machine())
    assert value_of(words, "-serial") == ["chardev:console"]
    devices = value_of(words, "-device")
    assert devices.index("virtio-serial-pci") < devices.index("virtserialport,chardev=agent")


def test_vmcoreinfo_is_there() -> None:
    assert "vmcoreinfo" in value_of(command(machine()), "-device")


def test_commas_in_paths_are_doubled_in_option_lists_only() -> None:
    files = GuestFiles(Path("/run/a,b"))
    words = command(machine(files=files, ram=Path("/shm/a,b.ram"), bzimage=Path("/cache/a,b")))
    assert any("path=/run/a,,b/qmp.sock," in word for word in words)
    assert any("mem-path=/shm/a,,b.ram" in word for word in words)
    assert value_of(words, "-kernel") == ["/cache/a,b"]


def test_a_kernel_without_initrd_gets_no_initrd() -> None:
    assert "-initrd" not in command(machine(initrd=None))
    assert value_of(command(machine()), "-initrd") == ["/cache/initrd"]


@pytest.mark.parametrize("accel", sorted(CPU_MODELS))
def test_the_cpu_goes_with_the_accelerator(accel: str) -> None:
    words = command(machine(accel=accel))
    assert value_of(words, "-accel") == [accel]
    assert value_of(words, "-cpu") == [CPU_MODELS[accel]]


def parameters(*, pae: bool = True, accel: str = "tcg", memory: str = "2G", append: str = "") -> str:
    return kernel_command_line(pae=pae, accel=accel, memory=memory_bytes(memory), append=append)


def test_the_users_parameters_come_last_and_so_win() -> None:
    assert parameters(append="  pti=off nokaslr ", accel="kvm") == "console=ttyS0 pti=on pti=off nokaslr"
    assert parameters(pae=False, accel="kvm") == "console=ttyS0"
    assert parameters(append="tsc=unstable") == "console=ttyS0 pti=on tsc=reliable tsc=unstable"


def test_page_tables_stay_where_the_emulated_mmu_finds_them() -> None:
    """A PAE guest under TCG with RAM above 4 GiB, and no other."""
    assert "userpte=nohigh" in parameters(memory="6G").split()
    assert "userpte=nohigh" not in parameters(memory="3584M").split()
    assert "userpte=nohigh" not in parameters(memory="6G", accel="kvm").split()
    assert "userpte=nohigh" not in parameters(memory="6G", pae=False).split()


@pytest.mark.parametrize(
    ("text", "size"),
    [("64M", 64 * MIB), ("2G", 2 * GIB), ("60G", 60 * GIB), ("1536m", 1536 * MIB), ("2GiB", 2 * GIB)],
)
def test_memory_sizes(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "2", "G", "-1G", "1.5G", "2T", "2G 3G", "0x40M", "63M", "61G", "99999M"]
)
def test_what_is_no_memory_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        memory_bytes(text)


@given(st.integers(SMALLEST_MEMORY // MIB, LARGEST_MEMORY // MIB))
def test_memory_text_is_read_back(mebibytes: int) -> None:
    assert memory_bytes(memory_text(mebibytes * MIB)) == mebibytes * MIB


def test_a_directory_too_long_for_unix_sockets_is_refused() -> None:
    room = LONGEST_SOCKET_PATH - len("/") - len("/agent.sock")
    GuestFiles(Path("/" + "d" * room)).check_lengths()
    with pytest.raises(UsageError, match="too long for unix sockets"):
        GuestFiles(Path("/" + "d" * (room + 1))).check_lengths()
