"""A core of a guest that stands still shows what the guest shows, by the commands that a person types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests import lifecycle
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

OF_THE_RUN = ("live", "core", "registers", "samples", "transients")
"""What two looks at the same memory need not share: the way to it, and the registers, of which a core holds some."""


@dataclass(frozen=True)
class Still:
    """A guest held at one moment, and its core."""

    guest: Guest
    core: Path

    def run(self, command: str, *more: str, core: Path | None = None) -> subprocess.CompletedProcess[str]:
        """The command on a core (this one's, unless given)."""
        return _run(command, "-c", str(core or self.core), "-s", str(self.guest.vmlinux), *more)

    def run_on_the_guest(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        """The same on the guest that was dumped."""
        return _run(command, "-g", self.guest.name, *more)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvmtools", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module", params=["pae", "nopae"])
def still(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Still]:
    """A guest with pkmap in use, stopped and dumped.

    It has just enough RAM for highmem: cores have no holes.  RAM above 4 GiB in a core is for test_transports.
    """
    core = tmp_path_factory.mktemp(request.param) / "core"
    name = f"test-core-{request.param}-{os.getpid()}"
    with lifecycle.booted(name, kernel=request.param, memory="1G", progress=print) as guest:
        with Agent(guest.agent) as agent:
            agent.driver("mix 300")
            agent.quiesce()
        with QmpMonitor(str(guest.qmp)) as monitor:
            monitor.command("stop")
            monitor.command("dump-guest-memory", paging=False, protocol=f"file:{core}")
        try:
            yield Still(guest, core)
        finally:
            core.unlink()


def verdict(text: str) -> Any:
    """What ``check --format json`` says of the memory, and of nothing else."""
    document = json.loads(text)
    return {name: value for name, value in document.items() if name not in OF_THE_RUN}


def test_a_core_is_the_guest_that_it_was(still: Still) -> None:
    ours = still.run("check", "--format", "json")
    theirs = still.run_on_the_guest("check", "--format", "json")
    assert (ours.returncode, ours.stderr) == (0, "")
    assert theirs.returncode == 0
    assert verdict(ours.stdout) == verdict(theirs.stdout)
    statuses = [outcome["status"] for outcome in json.loads(ours.stdout)["outcomes"]]
    skipped = [
        outcome["rule"] for outcome in json.loads(ours.stdout)["outcomes"] if outcome["status"] == "skipped"
    ]
    assert set(skipped) <= {
        "pagetable.write-xor-execute",  # without NX
        "memmap.section",  # FLATMEM
        "memmap.node",  # one node
    }

    text = still.run("check", "-v")
    assert (text.returncode, text.stderr) == (0, "")
    assert all(outcome["rule"] in text.stdout for outcome in json.loads(ours.stdout)["outcomes"])

    junit = still.run("check", "--format", "junit")
    assert (junit.returncode, junit.stderr) == (0, "")
    cases = ElementTree.fromstring(junit.stdout).iter("testcase")
    assert len(list(cases)) == len(statuses)

    addresses = ["linux_banner", "init_task+0x8", "0xc0000000", "swapper_pg_dir", "0x1000"]
    on_the_core = still.run("vtop", *addresses, "--format", "json")
    assert on_the_core.returncode == 1, "0x1000 is mapped"
    assert json.loads(on_the_core.stdout) == json.loads(
        still.run_on_the_guest("vtop", *addresses, "--format", "json").stdout
    )


DISTRIBUTION = Path("/usr/lib/python3/dist-packages")
"""Where Debian has what is not on PyPI: libkdumpfile's bindings."""


@pytest.fixture
def libkdumpfile(tmp_path: Path) -> Path:
    """A folder for the path of modules that has nothing but libkdumpfile's."""
    for pattern in ("*kdumpfile*", "*addrxlat*"):
        for each in DISTRIBUTION.glob(pattern):
            (tmp_path / each.name).symlink_to(each)
    done = subprocess.run(
        [sys.executable, "-c", "import kdumpfile; kdumpfile.kdumpfile"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this Python has no bindings of libkdumpfile (Debian: python3-libkdumpfile)")
    return tmp_path


def test_a_compressed_dump_says_the_same(
    still: Still, libkdumpfile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = still.core.with_name("kdump")
    with QmpMonitor(str(still.guest.qmp)) as monitor:
        monitor.command("dump-guest-memory", paging=False, protocol=f"file:{dump}", format="kdump-zlib")
    try:
        refused = still.run("check", core=dump)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "is a compressed dump, and this Python has no libkdumpfile" in refused.stderr
        monkeypatch.setenv("PYTHONPATH", str(libkdumpfile))
        ours = still.run("check", "--format", "json", core=dump)
        assert (ours.returncode, ours.stderr) == (0, "")
        theirs = still.run("check", "--format", "json")
        assert verdict(ours.stdout) == verdict(theirs.stdout)
        whole = dump.read_bytes()
        for size in (100, 5000, len(whole) // 2):
            dump.write_bytes(whole[:size])
            cut = still.run("check", core=dump)
            assert (cut.returncode, cut.stdout) == (3, "")
            assert len(cut.stderr.splitlines()) == 1
    finally:
        dump.unlink()


def test_half_a_core_is_refused_in_one_line(still: Still, tmp_path: Path) -> None:
    half = tmp_path / "half"
    with still.core.open("rb") as whole:
        half.write_bytes(whole.read(still.core.stat().st_size // 2))
    for command in (["check"], ["vtop", "linux_banner"]):
        done = still.run(*command, core=half)
        assert done.returncode == 3
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert str(half) in done.stderr
    half.unlink()
