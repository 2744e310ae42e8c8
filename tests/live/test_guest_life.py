"""Guests under the real QEMU: what starts, what is refused, what is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_says import leaves_ram_above_4_gib
from json_documents import valid

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests import console, lifecycle, ram_location, registry, starting
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.qemu_command import MEMORY_BELOW_4G
from kvmtools.boot.host import accelerator, detached
from kvmtools.boot.kernels import reference
from kvmtools.errors import AttachError, GuestVanished, UsageError

REPOSITORY = Path(__file__).parent.parent.parent
NAME = f"life-{os.getpid()}"


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Every test of this file must end without a guest of its own, and without a file of one."""
    yield
    left = [guest for guest in registry.all_guests() if guest.name.startswith(NAME)]
    for guest in left:
        lifecycle.stop(guest)
    assert left == []
    assert not registry.directory_of(NAME).exists()
    assert not list(ram_location.SHARED_MEMORY.glob(f"*{NAME}*"))


def kvmtools(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from kvmtools.cli import main; main()", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)


def test_a_guest_outlives_the_command_that_started_it() -> None:
    started = kvmtools("guest", "start", NAME, "--kernel", "nopae", "--memory", "256M", "--format", "json")
    assert started.returncode == 0, started.stderr
    (told,) = valid(started.stdout)["guests"]
    guest = registry.find(NAME)
    assert told["pid"] == guest.pid
    assert told["memory_bytes"] == 256 << 20
    assert Agent(guest.agent).version()["kernel"] == reference.ensure("nopae", progress=print).release
    assert lifecycle.state(guest).status == "running"
    assert len(lifecycle.state(guest).vcpus) == 2
    assert NAME in kvmtools("guest", "list").stdout

    stopped = kvmtools("guest", "stop", NAME)
    assert stopped.returncode == 0, stopped.stderr
    assert kvmtools("guest", "status", NAME).returncode == 3


@pytest.mark.parametrize(("kernel", "memory"), [("nopae", "64M"), ("pae", "64M"), ("pae", "60G")])
def test_the_smallest_and_the_largest_guest_boot(kernel: str, memory: str) -> None:
    # mem_map of 60 GiB is half of lowmem in one piece: KASLR may put the image into the middle, and then it panics.
    guest = starting.start(NAME, kernel=kernel, memory=memory, smp=1, accel="tcg", append="nokaslr")
    try:
        first = Agent(guest.agent).text("/proc/meminfo").splitlines()[0]
        assert first.startswith("MemTotal:")
        usable = guest.memory_bytes
        if leaves_ram_above_4_gib(guest.console.read_text(errors="replace")):
            usable = MEMORY_BELOW_4G
        # The kernel image, mem_map and the BIOS take a share, at 64 MiB a large one.
        assert 0.6 * usable < int(first.split()[1]) * 1024 < usable
        assert 0 < ram_location.touched_bytes(guest.ram) < guest.memory_bytes
    finally:
        lifecycle.stop(guest)


def test_the_processor_is_what_the_checks_need(pae_guest: lifecycle.Guest) -> None:
    flags = Agent(pae_guest.agent).text("/proc/cpuinfo").split()
    assert {"pae", "pse", "pge", "pat", "pse36", "nx", "pti"} <= set(flags)
    printed = pae_guest.console.read_text(errors="replace")
    assert "Kernel/User page tables isolation: enabled" in printed
    assert "WARNING" not in printed


def test_both_monitors_answer_at_once(guest: lifecycle.Guest) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(str(guest.qmp))
        assert ours.recv(1) == b"{"
        with QmpMonitor(str(guest.drgn_qmp)) as theirs:
            assert theirs.command("query-status")["status"] == "running"


def test_a_taken_name_is_refused_and_its_guest_unharmed(guest: lifecycle.Guest) -> None:
    with pytest.raises(UsageError, match="already running"):
        starting.start(guest.name)
    assert registry.find(guest.name) == guest
    assert lifecycle.state(guest).status == "running"


def test_a_killed_qemu_is_reported_and_cleaned_up() -> None:
    guest = starting.start(NAME, kernel="nopae", memory="128M", accel="tcg")
    detached.send(guest.pid, guest.started, signal.SIGKILL)
    assert detached.wait_for_end(guest.pid, guest.started, 10)
    listed = kvmtools("guest", "list")
    assert listed.returncode == 0
    assert f"guest '{NAME}' died (QEMU pid {guest.pid})" in listed.stderr
    assert NAME not in listed.stdout
    with pytest.raises(AttachError, match="no guest"):
        registry.find(NAME)


def test_a_guest_that_switches_itself_off_is_reported() -> None:
    guest = starting.start(NAME, kernel="nopae", memory="128M", accel="tcg")
    Agent(guest.agent).poweroff()
    assert detached.wait_for_end(guest.pid, guest.started, 20)
    with pytest.raises(GuestVanished, match="the console ends with"):
        registry.find(NAME)


def test_a_paused_guest_can_be_stopped() -> None:
    guest = starting.start(NAME, kernel="nopae", memory="128M", accel="tcg")
    with QmpMonitor(str(guest.qmp)) as monitor:
        monitor.command("stop")
    assert lifecycle.state(guest).status == "paused"
    lifecycle.stop(guest)
    assert not guest.alive


def test_a_guest_whose_monitor_is_taken_can_be_stopped() -> None:
    guest = starting.start(NAME, kernel="nopae", memory="128M", accel="tcg")
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(guest.qmp))
        lifecycle.stop(guest, patience=1.0)
    assert not guest.alive


def test_what_is_no_kernel_is_refused_in_qemus_words() -> None:
    with pytest.raises(AttachError, match="invalid kernel header"):
        starting.start(NAME, kernel=__file__, vmlinux=Path(__file__), memory="64M", accel="tcg")


def test_a_panic_while_booting_is_shown() -> None:
    with pytest.raises(AttachError, match="Kernel panic - not syncing"):
        starting.start(
            NAME, kernel="nopae", memory="128M", append="rdinit=/missing init=/missing", accel="tcg"
        )


def test_a_guest_that_dies_before_its_console_says_where_it_is() -> None:
    """No RAM at all is left to the kernel: it panics long before anything could be printed."""
    said = r"the console is empty; Kernel panic - not syncing: .*; CPU 0 runs at 0x[0-9a-f]+ \(\w+\+0x\w+\)"
    with pytest.raises(AttachError, match=said):
        starting.start(
            NAME, kernel="nopae", memory="128M", append="memmap=exactmap", accel="tcg", timeout=15.0
        )


def test_a_kernel_that_panics_after_the_start_is_said_to_have(capsys: pytest.CaptureFixture[str]) -> None:
    """One without an initrd, given by path, is ready as soon as QEMU is; its panic comes later."""
    built = reference.ensure("nopae", progress=print)
    guest = starting.start(NAME, kernel=str(built.bzimage), vmlinux=built.vmlinux, memory="128M", accel="tcg")
    try:
        deadline = time.monotonic() + 60
        while not lifecycle.state(guest).panic and time.monotonic() < deadline:
            time.sleep(0.5)
        assert "No working init found" in lifecycle.state(guest).panic
        shown = kvmtools("guest", "status", NAME).stdout
        assert shown.startswith(f"{NAME}: panicked, ")
        assert "Kernel panic - not syncing: No working init found" in shown
        checked = kvmtools("check", "-g", NAME)
        assert checked.returncode in (0, 1, 5)
        assert "Kernel panic - not syncing: No working init found" in checked.stdout
    finally:
        lifecycle.stop(guest)


def test_a_console_is_kept_within_bounds_while_qemu_writes_to_it() -> None:
    with (
        lifecycle.booted(NAME, kernel="nopae", memory="128M", accel="tcg") as guest,
        Agent(guest.agent) as agent,
    ):
        with guest.console.open("ab") as file:
            file.write(b"[    9.000000] flood\n" * (2 * console.LARGEST // 20))
        assert guest.console.stat().st_blocks * 512 > console.LARGEST
        lifecycle.state(guest)
        assert guest.console.stat().st_blocks * 512 <= console.LARGEST
        agent.write("/dev/ttyS0", "after the flood")
        deadline = time.monotonic() + 30
        while "after the flood" not in console.last_line(guest.console):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert guest.console.read_bytes().startswith(b"[    0.000000] Linux version")


def test_a_built_kernel_named_by_its_path_has_its_init_and_symbols() -> None:
    built = reference.ensure("pae", progress=print)
    with lifecycle.booted(NAME, kernel=str(built.bzimage), memory="256M") as guest:
        assert guest.vmlinux == built.vmlinux
        assert Agent(guest.agent).version()["kernel"] == built.release


def test_a_foreign_kernel_is_ready_as_soon_as_qemu_is() -> None:
    ours = reference.ensure("pae", progress=print)
    guest = starting.start(
        NAME, kernel=str(ours.bzimage), vmlinux=ours.vmlinux, initrd=ours.initrd, memory="128M", accel="tcg"
    )
    try:
        assert guest.vmlinux == ours.vmlinux
        Agent(guest.agent).wait_ready()
    finally:
        lifecycle.stop(guest)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(number: signal.Signals) -> None:
    words = ["guest", "start", NAME, "--kernel", "nopae", "--accel", "tcg", "--memory", "128M"]
    with subprocess.Popen(
        [sys.executable, "-c", "from kvmtools.cli import main; main()", *words],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    ) as starter:
        while not (found := [guest for guest in registry.all_guests() if guest.name == NAME]):
            assert starter.poll() is None
            time.sleep(0.01)
        starter.send_signal(number)
        _, complaint = starter.communicate(timeout=30)
    assert starter.returncode == 128 + number
    assert "Traceback" not in complaint
    assert not found[0].alive


def test_the_probe_tells_a_working_accelerator_from_none() -> None:
    assert accelerator.probe("tcg", seconds=60).works
    assert not accelerator.probe("no-such-accelerator").works


def test_auto_takes_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []
    chosen = accelerator.resolve("auto", said.append)
    assert accelerator.probe(chosen, seconds=60).works
    # The second time, nothing is tried again.
    asked = len(said)
    assert accelerator.resolve("auto", said.append) == chosen
    assert len(said) == asked
