from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kvmtools.attach.open import open_target
from kvmtools.errors import AttachError, GuestVanished, UsageError
from kvmtools.records import Range, Registers

SIZE = 0x10000
MTREE = """FlatView #0
 AS "memory", root: system
 Root memory region: system
  0000000000000000-0000000000007fff (prio 0, ram): ram
  0000000100000000-0000000100007fff (prio 0, ram): ram @0000000000008000
"""


@pytest.fixture
def guest(fake_qmp: Any, tmp_path: Path) -> Any:
    """32 KiB of RAM on each side of 4 GiB, and the file that holds them."""
    data = bytearray((i * 7 ^ i >> 8) & 0xFF for i in range(SIZE))
    fake_qmp.mtree = MTREE
    fake_qmp.memory = {0: data[: SIZE // 2], 1 << 32: data[SIZE // 2 :]}
    fake_qmp.file = tmp_path / "ram"
    fake_qmp.file.write_bytes(data)
    return fake_qmp


def attach(guest: Any, **options: Any) -> Any:
    return open_target(qemu=str(guest.path), **options)


def test_a_ram_file_that_proves_itself(guest: Any) -> None:
    with attach(guest, ram=guest.file, seed=5) as target:
        assert target.transport == "ram-file (proved against xp: 8 pages, 4 above 4 GiB, seed 5)"
        assert target.memory.ranges == (Range(0, SIZE // 2), Range(1 << 32, (1 << 32) + SIZE // 2))
        assert target.description == f"QEMU 7.2.0 at {guest.path}: 1 vCPU, 128 MiB"
        assert target.registers() == (Registers(0, 0xCBAA752B, 0x80050033, 0x1192000, 0x3506B0, 0x800),)


def test_the_seed_may_come_from_the_environment(guest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMTOOLS_SEED", "271828")
    with attach(guest, ram=guest.file) as target:
        assert target.transport.endswith("seed 271828)")
    with attach(guest, ram=guest.file, seed=1) as target:
        assert target.transport.endswith("seed 1)")
    monkeypatch.delenv("KVMTOOLS_SEED")
    seeds = set()
    for _ in range(3):
        with attach(guest, ram=guest.file) as target:
            seeds.add(target.transport.rpartition("seed ")[2])
    assert len(seeds) > 1, "without it, every proof looks elsewhere"
    for text in ("", "-1", "many", "²"):
        monkeypatch.setenv("KVMTOOLS_SEED", text)
        with pytest.raises(UsageError, match="KVMTOOLS_SEED"):
            attach(guest, ram=guest.file)


def test_a_ram_file_that_qemu_tells_about(guest: Any) -> None:
    guest.handlers["query-memdev"] = lambda fake, _: [{"id": "ram", "share": True}]
    guest.handlers["qom-get"] = lambda fake, arguments: {"/objects/ram": str(fake.file)}[arguments["path"]]
    with attach(guest) as target:
        assert target.transport.startswith("ram-file (proved")


def test_private_ram_is_not_taken_for_a_file(guest: Any) -> None:
    guest.handlers["query-memdev"] = lambda fake, _: [{"id": "ram", "share": False}]
    guest.handlers["qom-get"] = lambda fake, _: str(fake.file)
    with attach(guest) as target:
        assert target.memory.name == "pmemsave"


def test_the_wrong_file_is_not_used_and_said_so(guest: Any) -> None:
    """Another guest's RAM, of the same size."""
    guest.file.write_bytes(os.urandom(SIZE))
    with attach(guest, ram=guest.file) as target:
        assert target.memory.name == "pmemsave"
        assert "not used: ram-file and xp differ at 0x" in target.transport
        assert target.memory.read(1 << 32, 64) == guest.read(1 << 32, 64)


def test_without_a_file_or_a_readable_process_qmp_serves(guest: Any) -> None:
    with attach(guest, seed=5) as target:
        assert target.transport.startswith(
            "pmemsave (proved against xp: 8 pages, 4 above 4 GiB, seed 5; not used: QEMU does not"
        )
        assert guest.lent
        assert target.memory.read(1 << 32, 64) == guest.read(1 << 32, 64)
    assert not guest.lent


def test_the_last_resort_has_no_second(guest: Any) -> None:
    def refuse(fake: Any, _: Any) -> None:
        raise fake.Refused("no")

    guest.handlers["pmemsave"] = refuse
    with attach(guest) as target:
        assert target.transport.startswith("xp (alone, with nothing to prove it against; not used: ")
        assert target.memory.read(1 << 32, 64) == guest.read(1 << 32, 64)


def test_a_guest_that_dies_while_we_choose_has_vanished(guest: Any) -> None:
    guest.handlers["query-version"] = lambda fake, _: fake.die()
    with pytest.raises(GuestVanished):
        attach(guest, ram=guest.file)


def test_without_pause_the_guest_runs_on(guest: Any) -> None:
    with attach(guest, ram=guest.file, pause=False) as target:
        with target.paused() as pause:
            assert guest.running
        assert (pause.was_running, pause.held) == (True, False)
        assert target.vmcoreinfo() is None, "a dump would stop it"
    assert not {"stop", "cont", "dump-guest-memory"} & set(guest.seen)


def test_vmcoreinfo_comes_with_a_small_dump_and_is_asked_for_once(guest: Any, core_file: Any) -> None:
    core_file.loads = [(0, bytes(4096))]
    core_file.notes = [("VMCOREINFO", 0, b"OSRELEASE=6.1\n")]
    dumped = core_file.write().read_bytes()

    def dump(fake: Any, arguments: Any) -> Any:
        assert arguments["length"] == 4096
        Path(arguments["protocol"].removeprefix("file:")).write_bytes(dumped)
        return {}

    guest.handlers["dump-guest-memory"] = dump
    with attach(guest, ram=guest.file) as target:
        assert target.vmcoreinfo() == target.vmcoreinfo() == "OSRELEASE=6.1\n"
    assert guest.seen.count("dump-guest-memory") == 1
    assert not guest.lent


def test_vmcoreinfo_of_a_guest_without_it(guest: Any) -> None:
    with attach(guest, ram=guest.file) as target:
        assert target.vmcoreinfo() is None


def test_gdb_needs_an_address(guest: Any) -> None:
    with attach(guest, ram=guest.file) as target, pytest.raises(AttachError, match="--gdb ADDRESS"):
        target.gdb()


def test_a_gdb_socket_that_is_gone_costs_only_what_needs_it(guest: Any, tmp_path: Path) -> None:
    with attach(guest, ram=guest.file, gdb=str(tmp_path / "gone"), demand_gdb=False) as target:
        assert target.memory.read(0, 64) == guest.read(0, 64)
        with pytest.raises(AttachError, match=r"there is no socket .*gone"):
            target.gdb()


@pytest.mark.parametrize(
    "command", ["query-version", "query-cpus-fast", "query-memory-size-summary", "query-chardev"]
)
def test_a_qemu_that_refuses_is_let_go_of(guest: Any, command: str) -> None:
    def refuse(fake: Any, _: Any) -> None:
        raise fake.Refused("not in this sandbox")

    guest.handlers[command] = refuse
    held = _descriptors(), threading.active_count()
    address = f"{guest.path}.gdb"
    guest.chardevs = [("gdb", f"disconnected:unix:{address},server=on")]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        with pytest.raises(AttachError, match="sandbox"):
            attach(guest, ram=guest.file, gdb=address)
    # The fake QEMU, a thread of this process, sees a little later that its client left.
    deadline = time.monotonic() + 10
    while _descriptors() > held[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _descriptors() <= held[0]
    assert threading.active_count() <= held[1]


def _descriptors() -> int:
    """How many are open; their numbers are given again to others."""
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"qemu": "a", "core": Path("b")},
        {"core": Path("b"), "gdb": "c"},
        {"gdb": ":1", "pause": False},
        {"ram": Path("d")},
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: Any) -> None:
    with pytest.raises(UsageError):
        open_target(**arguments)
