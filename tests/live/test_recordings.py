"""A recorded guest says what the guest said, to kvmtools, to gdb and to drgn."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import kvmtools
from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

PROGRAMS = Path(sys.executable).parent
SEED = 20261127
ADDRESSES = 1000
SIZE = 8


@dataclass(frozen=True)
class Recorded:
    """A guest held at one moment, and its recording."""

    guest: Guest
    file: Path
    addresses: list[int]
    live: dict[int, bytes]
    """What the guest has at each address."""


def run(*words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvmtools", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def virtual_addresses(file: Path) -> list[int]:
    """Random ones in the file, by another reader of ELF; each segment has its share, small ones too."""
    chooser = random.Random(SEED)
    with file.open("rb") as opened:
        loads = [each for each in ELFFile(opened).iter_segments() if each["p_type"] == "PT_LOAD"]
    mapped = [load for load in loads if load["p_vaddr"] < 0xFFFF_F000]
    assert len(mapped) > 20
    return [
        load["p_vaddr"] + chooser.randrange(load["p_filesz"] - SIZE)
        for load in (chooser.choice(mapped) for _ in range(ADDRESSES))
    ]


@pytest.fixture(scope="module")
def recorded(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    file = tmp_path_factory.mktemp("recorded") / "vmcore"
    with Agent(guest.agent) as agent:
        agent.driver("mix 100")
        agent.quiesce()
    with QmpMonitor(str(guest.qmp)) as monitor:
        monitor.stop()
    try:
        done = run("snapshot", str(file), "-g", guest.name)
        assert (done.returncode, done.stderr) == (0, "")
        addresses = virtual_addresses(file)
        with kvmtools.open(guest=guest.name) as kernel:
            live = {address: kernel.read(address, SIZE) for address in addresses}
        yield Recorded(guest, file, addresses, live)
    finally:
        with QmpMonitor(str(guest.qmp)) as monitor:
            monitor.cont()


def test_without_a_vmlinux_it_says_what_the_guest_says(recorded: Recorded) -> None:
    with kvmtools.open(guest=recorded.guest.name) as guest, kvmtools.open(core=recorded.file) as again:
        assert again.vmlinux is None
        assert again.check().outcomes == guest.check().outcomes
        for ask in (
            lambda kernel: kernel.layout(),
            lambda kernel: kernel.zones(),
            lambda kernel: kernel.memmap(),
            lambda kernel: kernel.pkmap(),
            lambda kernel: kernel.walk(),
            lambda kernel: kernel.walk(pid=1),
            lambda kernel: kernel.vtop_each(["init_task", "schedule+4", 0xC000_0000, "pkmap_count"]),
            lambda kernel: [vcpu.region for vcpu in kernel.regs().vcpus],
            lambda kernel: kernel.processes(),
        ):
            assert repr(ask(again)) == repr(ask(guest))


def test_nothing_is_different_of_a_guest_that_stands_still(recorded: Recorded) -> None:
    with kvmtools.open(guest=recorded.guest.name) as kernel:
        found = kvmtools.diff(recorded.file, kernel)
        assert not found, found
        assert not found.missing


def test_registers_and_log_are_those_of_the_guest(recorded: Recorded) -> None:
    with kvmtools.open(guest=recorded.guest.name) as kernel, kvmtools.open(core=recorded.file) as again:
        assert again.session.target.registers() == kernel.session.target.registers()
        assert again.session.target.general_registers() == kernel.session.target.general_registers()
        told = again.session.target.recording
        assert told is not None
        assert told.log is not None
        printed = recorded.guest.console.read_text(errors="replace").replace("\r", "")
        lines = [line for line in told.log.splitlines() if "kvmtools" in line]
        assert lines
        assert all(line.partition("] ")[2] in printed for line in lines)


def test_gdb_reads_the_same_bytes(recorded: Recorded, tmp_path: Path) -> None:
    script = tmp_path / "gdb"
    script.write_text("".join(f"x/{SIZE}xb {address:#x}\n" for address in recorded.addresses))
    words = ["gdb", "-q", "-nx", "-batch", "-ex", f"core {recorded.file}", "-x", str(script)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = re.findall(r"^(0x[0-9a-f]+)\b[^:]*:((?:\s0x[0-9a-f]{2})+)$", done.stdout, re.MULTILINE)
    seen = {int(at, 16): bytes(int(byte, 16) for byte in data.split()) for at, data in lines}
    assert len(seen) == len(set(recorded.addresses))
    assert seen == recorded.live


def test_gdb_knows_the_cpus(recorded: Recorded) -> None:
    show = ["-ex", "info threads", "-ex", "thread 2", "-ex", 'printf "=%x\\n", $eip']
    words = ["gdb", "-q", "-nx", "-batch", str(recorded.guest.vmlinux), "-ex", f"core {recorded.file}", *show]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    with kvmtools.open(core=recorded.file) as kernel:
        second = kernel.session.target.registers()[1]
    assert f"={second.eip:x}" in done.stdout
    assert done.stdout.count("LWP") >= 2


DRGN = """
import json, sys
for address in json.load(open(sys.argv[1])):
    print(f"{address:x}", prog.read(address, 8).hex())
print("comm", prog["init_task"].comm.string_().decode())
"""


@pytest.mark.parametrize("disabled", ["", "*"], ids=["with our plugin", "drgn alone"])
def test_drgn_reads_the_same_bytes(recorded: Recorded, tmp_path: Path, disabled: str) -> None:
    asked, script = tmp_path / "addresses", tmp_path / "script.py"
    asked.write_text(json.dumps(recorded.addresses))
    script.write_text(DRGN)
    words = [str(PROGRAMS / "drgn"), "-q", "-c", str(recorded.file), "-s", str(recorded.guest.vmlinux)]
    env = {**os.environ, "DRGN_DISABLE_PLUGINS": disabled}
    done = subprocess.run(
        [*words, str(script), str(asked)], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split() for line in done.stdout.splitlines())
    assert said.pop("comm") == "swapper/0"
    assert {int(at, 16): bytes.fromhex(data) for at, data in said.items()} == recorded.live


def test_readelf_finds_no_fault(recorded: Recorded) -> None:
    done = subprocess.run(["readelf", "-aW", str(recorded.file)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "warning" not in done.stdout.lower()


def test_the_vmlinux_must_be_the_recorded_one(
    recorded: Recorded, pae_guest: Guest, nopae_guest: Guest
) -> None:
    core = ("-c", str(recorded.file), "-s")
    assert run("check", *core, str(recorded.guest.vmlinux)).returncode == 0
    other = nopae_guest if recorded.guest is pae_guest else pae_guest
    done = run("check", *core, str(other.vmlinux))
    assert (done.returncode, done.stdout) == (3, "")
    assert "is not the recorded kernel: its build id is" in done.stderr


def test_a_recording_of_a_recording_is_the_same(recorded: Recorded, tmp_path: Path) -> None:
    with (
        kvmtools.open(core=recorded.file) as one,
        kvmtools.open(core=one.snapshot(tmp_path / "again")) as other,
    ):
        memory, copy = one.session.target.memory, other.session.target.memory
        assert isinstance(memory, ElfCore)
        assert isinstance(copy, ElfCore)
        assert memory.captured == copy.captured
        for each in memory.captured:
            assert memory.view(each.start, len(each)).tobytes() == copy.read(each.start, len(each))
        assert one.session.target.general_registers() == other.session.target.general_registers()
        assert one.session.target.recording is not None
        assert other.session.target.recording is not None
        assert other.session.target.recording.log == one.session.target.recording.log
        assert other.session.target.recording.facts == one.session.target.recording.facts
        assert one.slide == other.slide
