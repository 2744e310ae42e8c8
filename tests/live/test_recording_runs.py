"""Recording a guest that runs: it hardly notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvmtools
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest


def test_the_pause_is_no_longer_than_a_looks(nopae_guest: Guest, tmp_path: Path) -> None:
    """The best of some, for the host is busy with other things too; tests/bench has it in milliseconds."""
    held: dict[str, list[float]] = {"look": [], "recording": []}
    with kvmtools.open(guest=nopae_guest.name) as kernel:
        for _ in range(5):
            kernel.observe()
            held["look"].append(kernel.pauses[-1].milliseconds)
            kernel.snapshot(tmp_path / "vmcore")
            held["recording"].append(kernel.pauses[-1].milliseconds)
            assert kernel.pauses[-1].was_running
    assert min(held["recording"]) <= 2 * min(held["look"]) + 10, held


def test_all_of_ram(nopae_guest: Guest, tmp_path: Path) -> None:
    file = tmp_path / "full.zst"
    with kvmtools.open(guest=nopae_guest.name) as live:
        live.snapshot(file, full=True, compress=True)
    with kvmtools.open(core=file) as kernel:
        memory = kernel.session.kernel.memory
        assert memory.captured == memory.ranges  # type: ignore[attr-defined]
        assert kernel.check(only=["memmap"]).exit_code == 0
        with kvmtools.open(guest=nopae_guest.name) as live:
            start = live.address("_stext")
            assert kernel.read(start, 1 << 20) == live.read(start, 1 << 20)
    file.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_recording_leaves_nothing(
    nopae_guest: Guest, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "full"
    words = [sys.executable, "-m", "kvmtools", "snapshot", str(file), "-g", nopae_guest.name, "--full"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not any(each.stat().st_size > 1 << 20 for each in tmp_path.iterdir()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []
    with QmpMonitor(str(nopae_guest.qmp)) as monitor:
        assert monitor.running()


def test_a_guest_that_is_not_to_be_held_is_recorded_as_it_runs(nopae_guest: Guest, tmp_path: Path) -> None:
    file = tmp_path / "vmcore"
    words = [sys.executable, "-m", "kvmtools", "snapshot", str(file), "-g", nopae_guest.name, "--no-pause"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "held" not in done.stdout
    assert done.stderr == "kvmtools: read while the guest ran: what changed meanwhile may look wrong\n"
    with kvmtools.open(core=file) as kernel:
        assert len(kernel.zones()) == 4


@pytest.mark.parametrize("bug", ["slot-emptied", "text-writable", "table-put", "zone-miscounted"])
def test_what_is_broken_is_broken_in_the_recording(nopae_guest: Guest, tmp_path: Path, bug: str) -> None:
    """Rules that find something ask the vmlinux for more than those that do not."""
    with Agent(nopae_guest.agent) as agent:
        agent.driver("mix 100")
        agent.quiesce()
        agent.driver(f"fault {bug}")
        try:
            with kvmtools.open(guest=nopae_guest.name) as kernel:
                live = kernel.check()
                kernel.snapshot(tmp_path / "vmcore")
        finally:
            agent.driver("fault undo")
    with kvmtools.open(core=tmp_path / "vmcore") as kernel:
        again = kernel.check()
    assert again.findings
    assert again.findings == live.findings
    assert again.outcomes == live.outcomes
