"""The page about symbols runs as it is written; modules have theirs in the shell; Ctrl-C ends a search."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_blocks import environment, run, typed

import kvmtools
from kvmtools.boot.guests.record import Guest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "symbols.md"


@pytest.fixture
def place(pae_guest: Guest, tmp_path: Path) -> Path:
    """Where the commands of the page are typed."""
    assert pae_guest.vmlinux is not None
    built = pae_guest.vmlinux.parent
    for folder in ("split", "packed", "runtime", "cache"):
        (tmp_path / folder).mkdir()
    (tmp_path / "qmp.sock").symlink_to(pae_guest.qmp)
    (tmp_path / "vmlinux").symlink_to(pae_guest.vmlinux)
    (tmp_path / "split" / "vmlinuz").symlink_to(built / "bzImage")
    for folder in built.glob("initrd-*/"):
        (tmp_path / folder.name).symlink_to(folder)
    return tmp_path


@pytest.fixture
def port(place: Path) -> Iterator[int]:
    """That of a debuginfod which has the kernel."""
    program = shutil.which("debuginfod")
    if program is None:
        pytest.skip("the program debuginfod is not installed")
    with socket.create_server(("localhost", 0)) as free:
        number = free.getsockname()[1]
    folder = place / "served"
    folder.mkdir()
    shutil.copy(place / "vmlinux", folder / "vmlinux")
    command = [program, "-d", str(place / "debuginfod.sqlite"), "-p", str(number), "-F", str(folder)]
    log = (place / "debuginfod.log").open("w+")
    with log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            for _ in range(600):
                if "fts traversed" in (place / "debuginfod.log").read_text():
                    break
                assert server.poll() is None
                time.sleep(0.1)
            yield number
        finally:
            server.terminate()


@pytest.mark.timeout(600)
def test_every_line_of_the_page_runs(place: Path, port: int) -> None:
    env = environment(
        place / "runtime",
        PORT=str(port),
        XDG_CACHE_HOME=str(place / "cache"),
        DEBUGINFOD_CACHE_PATH=str(place / "served-cache"),
    )
    lines = list(typed(PAGE.read_text(encoding="utf-8")))
    assert len(lines) > 10
    for each in lines:
        shutil.rmtree(place / "cache" / "kvmtools" / "facts", ignore_errors=True)
        run(each, place, env)


def test_ctrl_c_does_not_wait_for_a_silent_server(place: Path) -> None:
    with socket.create_server(("localhost", 0)) as silent:
        silent.settimeout(60)
        env = environment(
            place / "runtime",
            DEBUGINFOD_URLS=f"http://localhost:{silent.getsockname()[1]}",
            DEBUGINFOD_CACHE_PATH=str(place / "served-cache"),
            XDG_CACHE_HOME=str(place / "cache"),
        )
        words = [sys.executable, "-m", "kvmtools", "pkmap", "--qemu", "qmp.sock"]
        with subprocess.Popen(words, cwd=place, env=env, stderr=subprocess.PIPE, text=True) as process:
            client, _ = silent.accept()
            with client:
                client.recv(1000)
                process.send_signal(signal.SIGINT)
                begun = time.monotonic()
                _, said = process.communicate(timeout=30)
    assert time.monotonic() - begun < 15
    assert process.returncode == 130
    assert said.split() == ["kvmtools:", "interrupted"]


def test_the_shell_knows_the_types_of_a_module(place: Path) -> None:
    with kvmtools.open(qemu=str(place / "qmp.sock"), symbols=place / "vmlinux") as kernel:
        release = kernel.release.split()[-1]
    code = """
module = prog.module("kvmtools")
print(module.debug_file_path.rpartition("/")[2])
start, end = module.address_range
print(next(each.name for each in prog.symbols("init_module") if start - (1 << 20) < each.address < end + (1 << 20)))
"""
    # As a package has them, unpacked.
    package = place / "package" / "usr" / "lib" / "debug" / "lib" / "modules" / release
    (package / "kernel").mkdir(parents=True)
    shutil.copy(place / "vmlinux", package)
    for number, file in enumerate(place.glob("initrd-*/kvmtools.debug.ko")):
        (package / "kernel" / str(number)).mkdir()
        shutil.copy(file, package / "kernel" / str(number) / "kvmtools.ko")
    for symbols, named in (("vmlinux", "kvmtools.debug.ko"), ("package", "kvmtools.ko")):
        words = [sys.executable, "-m", "kvmtools", "shell", "--qemu", "qmp.sock", "-s", symbols, "-e", code]
        done = subprocess.run(words, cwd=place, env=dict(os.environ), capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (f"{named}\ninit_module\n", "")
