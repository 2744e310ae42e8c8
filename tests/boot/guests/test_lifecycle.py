"""A guest's life, with a stand-in for QEMU: nothing here needs a kernel."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from guest_place import Place

from kvmtools.boot.guests import guest_state, lifecycle, ram_location, record, registry, starting
from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.host import detached
from kvmtools.errors import AttachError, BuildError, GuestVanished, UsageError

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_guest_is_started_found_and_stopped(place: Place) -> None:
    guest = place.start()
    assert registry.find("fake") == guest
    assert registry.all_guests() == [guest]
    assert lifecycle.state(guest).status == "running"
    assert lifecycle.state(guest).vcpus == (guest_state.VcpuThread(0, 4711),)
    lifecycle.stop(guest)
    assert not guest.alive
    assert place.left_behind() == []
    assert not place.kept_messages.exists()


def test_everything_of_a_guest_is_private(place: Place) -> None:
    guest = place.start()
    assert stat.S_IMODE(guest.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(guest.ram.stat().st_mode) == 0o600
    assert guest.ram.stat().st_size == guest.memory_bytes
    assert ram_location.touched_bytes(guest.ram) == 0
    lifecycle.stop(guest)


def test_it_has_a_session_of_its_own(place: Place) -> None:
    guest = place.start()
    assert os.getsid(guest.pid) == guest.pid
    lifecycle.stop(guest)


def test_the_record_names_its_units(place: Place) -> None:
    guest = place.start()
    record = json.loads(GuestFiles(guest.directory).record.read_text())
    assert record["schema"] == "kvmtools/1"
    assert record["started_ticks"] == guest.started
    assert record["memory_bytes"] == 64 << 20
    lifecycle.stop(guest)


def test_a_name_is_taken_once(place: Place) -> None:
    guest = place.start()
    with pytest.raises(UsageError, match=f"already running .QEMU pid {guest.pid}"):
        place.start()
    assert guest.alive
    lifecycle.stop(guest)


def test_two_names_live_side_by_side(place: Place) -> None:
    pair = [place.start("first"), place.start("second")]
    assert registry.all_guests() == pair
    with pytest.raises(AttachError, match="running: first, second"):
        registry.find("third")
    for guest in pair:
        lifecycle.stop(guest)
    with pytest.raises(AttachError, match="kvmtools guest start third"):
        registry.find("third")


def test_a_start_in_another_process_is_not_disturbed(place: Place) -> None:
    with registry.claimed("fake") as directory:
        with pytest.raises(UsageError, match="being started or stopped"):
            place.start()
        assert registry.clean_up("fake") is None
        assert directory.is_dir()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "x" * 33, "../up"])
def test_what_cannot_be_a_name_is_refused(place: Place, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a guest's name"):
        place.start(name)
    assert place.left_behind() == []


def test_qemus_own_complaint_is_shown_and_nothing_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU_SAYS", "qemu: could not load kernel 'bzImage'")
    with pytest.raises(AttachError, match="could not load kernel 'bzImage'"):
        place.start()
    assert place.left_behind() == []


def test_a_panic_ends_the_wait(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    panic = "Kernel panic - not syncing: VFS: Unable to mount root fs"
    monkeypatch.setenv("FAKE_QEMU_CONSOLE", f"[    0.5] {panic}\r\n[    0.6] ---[ end {panic} ]---\r\n")
    monkeypatch.setenv("FAKE_QEMU_MUTE", "1")
    with pytest.raises(AttachError, match=f"{panic}$|{panic} ") as caught:
        place.start()
    assert "end" not in caught.value.message
    assert str(place.kept_messages) in caught.value.hint
    assert panic in place.kept_messages.read_text()
    assert place.left_behind() == []


def test_a_guest_that_never_answers_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_QEMU_MUTE", "1")
    with pytest.raises(AttachError, match="--timeout"):
        place.start(timeout=0.5)
    assert place.left_behind() == []


def test_a_guest_that_says_nothing_and_ends_is_said_to_have_been_reset(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triple fault, say: -no-reboot makes it QEMU's end."""
    monkeypatch.setenv("FAKE_QEMU_SAYS", "")
    with pytest.raises(AttachError, match="reset before its kernel printed anything") as caught:
        place.start()
    assert "printed is in" not in caught.value.hint
    assert not place.kept_messages.exists()


def test_a_guest_that_panicked_later_is_said_to_have(place: Place) -> None:
    """To QEMU it runs: its CPU spins in panic()."""
    guest = place.start()
    assert lifecycle.state(guest).panic == ""
    panic = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
    with guest.console.open("a") as console:
        console.write(f"[    1.5] {panic}\r\n[    1.6] ---[ end {panic} ]---\r\n")
    assert lifecycle.state(guest).panic == panic
    lifecycle.stop(guest)


def test_no_room_for_the_ram(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram_location, "_free", lambda _directory: 1 << 20)
    with pytest.raises(AttachError, match="no room"):
        place.start()
    assert place.left_behind() == []


def test_ram_goes_to_the_disk_if_memory_is_short(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram_location, "_available_memory", lambda: 1 << 20)
    guest = place.start()
    assert guest.ram.is_relative_to(place.root / "cache")
    lifecycle.stop(guest)
    assert not guest.ram.exists()


def another_users(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path.write_text("theirs")
    os.chown(path, 12345, 12345)


def link(path: Path) -> None:
    path.symlink_to(path.parent)


@pytest.mark.parametrize("put", [another_users, link, Path.mkdir])
def test_what_has_our_name_in_shared_memory_and_is_not_ours_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], None]
) -> None:
    """/dev/shm is everybody's, and the name of our file can be guessed."""
    guest = place.start()
    lifecycle.stop(guest)
    put(guest.ram)
    other = place.start()
    assert other.ram.is_relative_to(place.root / "cache")
    lifecycle.stop(other)
    assert guest.ram.lstat()
    monkeypatch.setattr(ram_location, "places", lambda _size: iter([guest.ram.parent]))
    with pytest.raises(AttachError, match=f"{guest.ram.name} is not ours"):
        place.start()


def test_without_qemu_the_package_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place.root))
    with pytest.raises(BuildError, match="qemu-system-x86"):
        place.start()


def test_a_foreign_kernel_needs_its_symbols(place: Place) -> None:
    with pytest.raises(UsageError, match="-s"):
        starting.start("fake", kernel=str(place.image))
    with pytest.raises(UsageError, match="no kernel"):
        starting.start("fake", kernel=str(place.root / "missing"), vmlinux=place.vmlinux)
    with pytest.raises(UsageError, match="of its own"):
        starting.start("fake", kernel="pae", vmlinux=place.vmlinux)
    assert place.left_behind() == []


@pytest.mark.parametrize("smp", [0, -1, 256])
def test_cpus_out_of_range(place: Place, smp: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        starting.start("fake", kernel=str(place.image), vmlinux=place.vmlinux, smp=smp)


def test_a_dead_guest_is_reported_with_qemus_last_output_and_cleaned_up(place: Place) -> None:
    guest = place.start()
    detached.end(guest.pid, guest.started, patience=0)
    GuestFiles(guest.directory).qemu_log.write_text("first\nqemu: terminating on signal 9\n\n")
    with pytest.raises(GuestVanished, match="terminating on signal 9"):
        registry.find("fake")
    assert place.left_behind() == []
    with pytest.raises(AttachError, match="no guest 'fake'"):
        registry.find("fake")


def test_a_dead_guest_without_a_word_is_reported_with_the_consoles_end(place: Place) -> None:
    guest = place.start()
    detached.end(guest.pid, guest.started, patience=0)
    guest.console.write_text("[    9.1] reboot: Power down\r\n")
    (dead,) = registry.sweep()
    assert dead.name == "fake"
    assert "reboot: Power down" in str(dead)
    assert str(place.kept_messages) in str(dead)
    assert place.kept_messages.read_bytes() == b"[    9.1] reboot: Power down\r\n"
    assert registry.sweep() == []
    assert place.left_behind() == []


def test_the_state_of_a_dead_guest_says_that_it_died(place: Place) -> None:
    guest = place.start()
    detached.end(guest.pid, guest.started, patience=0)
    with pytest.raises(GuestVanished):
        lifecycle.state(guest)


def test_the_place_of_a_dead_guest_is_free(place: Place) -> None:
    first = place.start()
    detached.end(first.pid, first.started, patience=0)
    second = place.start()
    assert second.pid != first.pid
    assert registry.all_guests() == [second]
    lifecycle.stop(first)  # has nothing to do, and must not touch its successor
    assert second.alive
    assert second.ram.exists()
    lifecycle.stop(second)


def test_a_recycled_pid_is_not_our_guest(place: Place) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            # The same pid at the same tick would be the same process to anybody.
            time.sleep(2 / os.sysconf("SC_CLK_TCK"))
            guest = place.start()
            detached.end(guest.pid, guest.started, patience=0)
            recycled = replace(guest, pid=stranger.pid)
            record.write(recycled)
            assert not recycled.alive
            lifecycle.stop(recycled)
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert place.left_behind() == []


def test_a_deaf_qemu_is_killed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_QEMU_DEAF", "1")
    guest = place.start()
    lifecycle.stop(guest, patience=0.2)
    assert not guest.alive
    assert place.left_behind() == []


def test_a_qemu_that_hangs_in_the_hosts_kernel_stays_on_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU_DEAF", "1")
    guest = place.start()
    with monkeypatch.context() as hanging:
        hanging.setattr(detached, "send", lambda *_: True)
        hanging.setattr(detached, "_KILL_SECONDS", 0.01)
        with pytest.raises(
            AttachError, match=f"guest 'fake' is not stopped: QEMU's process {guest.pid} does"
        ):
            lifecycle.stop(guest, patience=0.2)
    assert registry.find("fake") == guest
    lifecycle.stop(guest, patience=0.2)
    assert place.left_behind() == []


def test_a_monitor_in_use_is_busy_not_dead(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    guest = place.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(guest.qmp))
        assert client.recv(1) == b"{"
        assert lifecycle.state(guest).status == "busy"
    lifecycle.stop(guest)


def test_leftovers_of_a_start_that_was_killed_are_cleared(place: Place) -> None:
    directory = registry.directory_of("fake")
    directory.mkdir()
    record.write_unfinished(directory, "fake")
    (directory / "qemu.log").touch()
    orphan = ram_location.create("fake", directory, 1 << 20)
    guest = place.start()
    assert guest.ram == orphan
    assert guest.ram.stat().st_size == guest.memory_bytes
    lifecycle.stop(guest)
    assert place.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_an_interrupted_start_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("FAKE_QEMU_MUTE", "1")
    program = (
        "import sys; from pathlib import Path; from kvmtools.boot.guests import ram_location, starting;"
        f"ram_location.SHARED_MEMORY = Path({str(place.root / 'shm')!r});"
        f"starting.start('fake', kernel={str(place.image)!r}, vmlinux=Path({str(place.vmlinux)!r}),"
        " memory='64M', accel='tcg')"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stderr=subprocess.PIPE) as starter:
        while not (found := registry.all_guests()):
            assert starter.poll() is None
            time.sleep(0.02)
        starter.send_signal(number)
        _, complaint = starter.communicate(timeout=30)
    assert starter.returncode == (-number if number == signal.SIGINT else 128 + number), complaint
    assert not found[0].alive
    assert place.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_guest_ends_with_the_block_that_booted_it(place: Place, number: signal.Signals) -> None:
    program = (
        "import time; from pathlib import Path; from kvmtools.boot.guests import lifecycle, ram_location;"
        f"ram_location.SHARED_MEMORY = Path({str(place.root / 'shm')!r}); vmlinux = Path({str(place.vmlinux)!r})\n"
        f"with lifecycle.booted('fake', kernel={str(place.image)!r}, vmlinux=vmlinux, memory='64M', accel='tcg'):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        process.wait(30)
    assert registry.all_guests() == []
    assert place.left_behind() == []
