"""The real drgn with our plugin on a small core: which bytes it shows above 4 GiB, and where it refuses."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from core_file import CoreFile
from real_drgn import run_drgn

PAGE_OFFSET, ROOT = 0xC000_0000, 0x10_0000
HIGH = 0x1_4000_0000
WINDOW = 0xC060_0000
PAE_NOTE = "CONFIG_X86_PAE=y"


def noted(*more: str) -> bytes:
    lines = ["OSRELEASE=6.1.0", "PAGESIZE=4096", f"SYMBOL(swapper_pg_dir)={PAGE_OFFSET + ROOT:x}", *more]
    return "\n".join([*lines, ""]).encode()


def memory() -> bytearray:
    """PAE tables: a large page maps the first 2 MiB, and one page of the window leads above 4 GiB."""
    low = bytearray(4 << 20)
    struct.pack_into("<Q", low, ROOT + 8 * 3, 0x20_0001)
    struct.pack_into("<Q", low, 0x20_0000, 0x1E3)
    struct.pack_into("<Q", low, 0x20_0000 + 8 * 3, 0x30_0063)
    struct.pack_into("<2Q", low, 0x30_0000, HIGH | 0x63, HIGH + 0x1000 | 0x63)
    low[0:8] = b"wrapped!"
    low[0x1000:0x1008] = b"at 4 KiB"
    return low


@pytest.fixture
def core(tmp_path: Path) -> CoreFile:
    """Its high page has other bytes than the page that drgn would take for it."""
    made = CoreFile(tmp_path / "core")
    made.loads = [(0, bytes(memory())), (HIGH, b"is right".ljust(4096, b"."))]
    made.notes.append(("VMCOREINFO", 0, noted(PAE_NOTE)))
    return made


READ = """
for read in (
    lambda: prog.read(0xc0600000, 8),
    lambda: prog.read(0xc0600ffc, 8),
    lambda: prog.read(0xc0000000, 8),
    lambda: prog.read(0x1c0000000, 8),
    lambda: prog.read(0x140000000, 8, physical=True),
    lambda: prog.read(0x1000, 8, True),
):
    try:
        print(read().decode())
    except FaultError as error:
        print("!", error)
"""


@pytest.mark.parametrize("options", [["--architecture", "i386"], []], ids=["32 bits", "as ELF64 says"])
def test_above_4_gib_no_byte_is_wrong(core: CoreFile, options: list[str]) -> None:
    done = run_drgn("-q", "--no-default-symbols", *options, "-c", core.write(), "-e", READ)
    assert (done.returncode, done.stderr) == (0, "")
    window, past, low, no_address, high, at_4_kib = done.stdout.splitlines()
    assert window == "is right"
    assert past.startswith("! physical address 0x140001000: no RAM")
    assert low == "wrapped!"
    if options:
        assert no_address in ("wrapped!", "! could not find memory segment: 0xc0000000")
        assert high.startswith("! drgn cuts physical addresses to 32 bits")
        assert at_4_kib.startswith("! drgn cuts physical addresses to 32 bits")
    else:
        assert no_address == "! no address of an i386 kernel: 0x1c0000000"
        assert (high, at_4_kib) == ("is right", "at 4 KiB")


def test_without_pae_there_are_no_such_addresses(core: CoreFile) -> None:
    low = memory()
    struct.pack_into("<I", low, ROOT + 4 * (PAGE_OFFSET >> 22), 0x1E3)
    core.loads, core.notes, core.bits = [(0, bytes(low))], [("VMCOREINFO", 0, noted())], 32
    code = "print(prog.read(0x1000, 8, True), prog.read(0xc0001000, 8))"
    done = run_drgn("--no-default-symbols", "-c", core.write(), "-e", code)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "b'at 4 KiB' b'at 4 KiB'\n")


@pytest.mark.parametrize(
    ("note", "line"),
    [
        (
            noted(PAE_NOTE).replace(b"swapper_pg_dir)=c0", b"swapper_pg_dir)=c1"),
            "is not where its VMCOREINFO says",
        ),
        (noted(), "is not where its VMCOREINFO says"),  # without PAE, by its word
    ],
    ids=["elsewhere", "another form"],
)
def test_a_note_that_is_not_of_this_memory_costs_all(core: CoreFile, note: bytes, line: str) -> None:
    core.notes = [("VMCOREINFO", 0, note)]
    for code in ("prog.read(0xc0000000, 8)", "prog.read(0, 8, True)"):
        done = run_drgn("--no-default-symbols", "--architecture", "i386", "-c", core.write(), "-e", code)
        first, *_, last = done.stderr.splitlines()
        assert first.startswith("warning: kvmtools: nothing can be read of this guest: ")
        assert line in first
        assert line in last
        assert done.returncode == 1


def test_another_architecture_is_left_alone(core: CoreFile) -> None:
    """A core of x86_64 is drgn's business: nothing of ours is loaded for it."""
    core.machine = 62
    core.notes.append(("VMCOREINFO", 0, noted()))
    code = "import sys; print(prog.platform.arch, *sorted(name for name in sys.modules if name.startswith('kvmtools')))"
    done = run_drgn("--no-default-symbols", "-c", core.write(), "-e", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[1:] == ["kvmtools", "kvmtools.companions", "kvmtools.companions.drgn"]


def test_a_process_of_i386_is_left_alone(core: CoreFile) -> None:
    core.notes, core.bits, core.loads = [], 32, [(0x1000, b"a process")]
    done = run_drgn(
        "--no-default-symbols", "-c", core.write(), "-e", "import sys; print('kvmtools.api' in sys.modules)"
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "False\n")
