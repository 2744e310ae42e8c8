"""docs/drgn.md as it stands: its commands are typed in a shell, its sessions at drgn's prompt."""

from __future__ import annotations

import re
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_qemu import Start
from console_blocks import environment, fits, run, typed
from real_drgn import Terminal, live, run_drgn

import kvmtools
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "drgn.md").read_text(encoding="utf-8")
SESSION = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(pae_guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the guest's socket, its vmlinux and a core, by the names that the page has for them."""
    folder = tmp_path_factory.mktemp("drgn-page")
    (folder / "qmp.sock").symlink_to(pae_guest.drgn_qmp)
    (folder / "vmlinux").symlink_to(pae_guest.vmlinux)
    with Agent(pae_guest.agent) as agent:
        agent.driver("mix 400")
        with kvmtools.open(guest=pae_guest.name) as kernel:
            kernel.snapshot(folder / "core")
        yield folder
        agent.driver("free")


def test_every_command_of_the_page(place: Path) -> None:
    commands = list(typed(PAGE))
    assert len(commands) > 3
    for each in commands:
        run(each, place, environment(place))


def test_every_line_of_its_sessions(place: Path) -> None:
    lines = [
        line.partition("\n")[::2]
        for block in SESSION.findall(PAGE)
        for line in re.split(r"^>>> ", block, flags=re.MULTILINE)[1:]
    ]
    assert len(lines) > 12
    with Terminal("--qemu", place / "qmp.sock", "-s", place / "vmlinux") as terminal:
        for line, shown in lines:
            told = terminal.type(line)
            assert fits(shown, told), f">>> {line}\nshown:\n{shown}\nprinted:\n{told}"


def test_the_guest_is_left_as_it_was(nopae_guest: Guest) -> None:
    code = 'from drgn.commands import run_command; run_command(prog, "kvm-check --only zones")'
    with QmpMonitor(str(nopae_guest.qmp)) as monitor:
        for state in ("running", "paused"):
            done = run_drgn(*live(nopae_guest), "-e", code)
            assert (done.returncode, monitor.status()) == (0, state)
            monitor.stop()
        monitor.cont()


def test_a_guest_without_a_kernel_is_told_in_one_line(start: Start) -> None:
    """Firmware runs, and drgn can still look at its memory."""
    machine = start("-m", "64M")
    code = "print(len(prog.read(0x1000, 4, physical=True)))"
    done = run_drgn("--qemu", machine.qmp, "--no-default-symbols", "-e", code)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "4\n", 1)
    assert "its VMCOREINFO is nowhere in memory" in done.stderr


def test_the_note_is_found_in_memory(nopae_guest: Guest) -> None:
    """By TCP drgn cannot have it from QEMU; the same goes for one without ``-device vmcoreinfo``."""
    code = 'print(prog["init_task"].comm.string_().decode(), prog.symbol("init_task").address)'
    by_unix = run_drgn(*live(nopae_guest), "-e", code)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as qemu:
        qemu.connect(str(nopae_guest.drgn_qmp))
        relay = threading.Thread(target=_relay, args=(server, qemu), daemon=True)
        relay.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = run_drgn("--qemu", address, "-s", nopae_guest.vmlinux, "-e", code)
        relay.join(10)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", by_unix.stdout)


def _relay(server: socket.socket, qemu: socket.socket) -> None:
    """All that one client and QEMU say to each other, until the client is gone."""
    client, _ = server.accept()
    with client:
        ends = {client: qemu, qemu: client}
        while True:
            for end in select.select(list(ends), [], [])[0]:
                data = end.recv(1 << 16)
                if not data:
                    return
                ends[end].sendall(data)
