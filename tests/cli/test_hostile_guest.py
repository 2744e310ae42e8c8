"""A guest whose names and command line speak to the terminal: no command repeats them as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from breaks.pagetable import table_type_lost
from hostile_text import harmless
from opened_kernel import always_opens, session_of
from recorded_guest import RecordedGuest, exchanged, load

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session
from kvmtools.cli.output import progress
from kvmtools.compare.engine import check
from kvmtools.observe.observed import Observed
from kvmtools.observe.structure import Structure
from kvmtools.report import FORMATS, render
from kvmtools.show.printable import printable

Invoke = Callable[..., Any]
COMM = "\x1b]0;t\x07\n\x9b<&"
MODULE = "\x1b[31m\r\n\x85]]>"
COMMANDS = (
    ("walk", "--pid", "1"),
    ("walk", "--region", "vmalloc"),
    ("walk",),
    ("walk", "--raw"),
    ("vtop", "--pid", "1", "0x08048000"),
    ("vtop", "linux_banner"),
    ("regs",),
    ("memmap",),
    ("memmap", "0x1234"),
    ("pkmap",),
    ("layout",),
    ("zones",),
)


def patched(guest: RecordedGuest, address: int, text: str, room: int) -> None:
    """Other bytes in a ``char[]`` of the guest, wherever its kernel maps them."""
    data = text.encode("latin-1")[: room - 1].ljust(room, b"\0")
    row = int(guest.healthy.kernel_walk.rows([address])[0])
    leaf = guest.healthy.kernel_walk.mapping(row)
    guest.snapshot.patch(leaf.physical + address - leaf.virtual, data)


def rename(guest: RecordedGuest) -> None:
    """Every process, the module and the first resource get names that a person would not give."""
    kernel, vmlinux = guest.kernel, guest.vmlinux
    for process in guest.healthy.observed.processes:
        patched(guest, process.task + vmlinux.offset("struct task_struct", "comm"), COMM, 16)
    module = kernel.pointer(kernel.address("modules")) - vmlinux.offset("struct module", "list")
    name = module + vmlinux.offset("struct module", "name")
    patched(guest, name, MODULE, vmlinux.sizeof("struct module", "name"))
    root = Structure(kernel, "struct resource", kernel.address("iomem_resource"))
    resource = Structure(kernel, "struct resource", root.unsigned("child"))
    patched(guest, resource.unsigned("name"), MODULE, 8)


def observed(guest: RecordedGuest) -> Observed:
    """What is seen of it, with a command line of its kind."""
    seen = guest.observe()
    line = f"rodata={COMM} rodata=off {seen.configuration.command_line}"
    return exchanged(seen, configuration=replace(seen.configuration, command_line=line))


@pytest.fixture(params=["pae", "nopae"])
def hostile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RecordedGuest:
    guest = load(request.param)
    rename(guest)
    always_opens(monkeypatch, session_of(guest, guest.kernel))
    monkeypatch.setattr(Session, "observe", lambda _self, processes: guest.observe())
    return guest


def test_the_names_arrive(hostile: RecordedGuest, invoke: Invoke) -> None:
    """Else the tests below would show nothing; JSON says exactly what the guest does."""
    assert {process.comm for process in hostile.observe().processes} == {COMM}
    regions = json.loads(invoke("walk", "--format", "json").out)["runs"]
    assert f"module {MODULE}" in {run["region"] for run in regions}
    assert printable(f"module {MODULE}") in invoke("walk").out
    assert printable(COMM) in invoke("walk", "--pid", "1").out
    if hostile.kernel.paging.entry_size == 8:  # else the rule that it is about needs NX first
        (reason,) = [one.reason for one in check(observed(hostile)).outcomes if "rodata=" in one.reason]
        assert reason.startswith("rodata=\x1b]0;t\x07 rodata=off on the command line")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.usefixtures("hostile")
def test_no_command_repeats_them(invoke: Invoke, words: tuple[str, ...], form: str) -> None:
    shown = invoke(*words, "--format", form)
    assert shown.out
    assert harmless(shown.out)
    assert harmless(shown.err)


def test_no_answer_of_the_library_repeats_them(hostile: RecordedGuest) -> None:
    kernel = OpenKernel(session_of(hostile, hostile.kernel))
    for answer in (
        kernel.walk(pid=1),
        kernel.walk(),
        kernel.vtop("linux_banner"),
        kernel.vtop(0x0804_8000, pid=1),
    ):
        assert harmless(repr(answer))


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_repeats_them(hostile: RecordedGuest, form: str) -> None:
    """Of a healthy guest, and of one with a process in its findings."""
    assert harmless(render(check(observed(hostile)), form, verbose=True))
    table_type_lost(hostile)
    broken = check(observed(hostile))
    (found,) = [each for each in broken.findings if each.rule == "pagetable.tables-typed"]
    assert f"of {COMM}[" in found.expected
    assert harmless(render(broken, form, verbose=True))


def test_what_the_guests_driver_says(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines stay lines; nothing else in them is obeyed."""
    guest = SimpleNamespace(agent=Path("nowhere"), name="pae")
    monkeypatch.setattr("kvmtools.boot.guests.registry.find", lambda _name: guest)
    monkeypatch.setattr(
        "kvmtools.boot.guests.lifecycle.state", lambda _guest: SimpleNamespace(status="running", panic="")
    )
    monkeypatch.setattr("kvmtools.boot.guests.agent.Agent.driver", lambda _self, _words: f"one {MODULE}\ntwo")
    said = invoke("guest", "driver", "pae", "status").out
    assert harmless(said)
    assert said.splitlines()[-1] == "two"


def test_progress_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Only on a terminal; what is shown may come from the guest's console."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("os.get_terminal_size", lambda _fd: os.terminal_size((200, 24)))
    monkeypatch.setattr("sys.stderr.fileno", lambda: 2)
    progress()(f"waiting: {COMM}")
    assert harmless(capsys.readouterr().err.removeprefix("\r\x1b[K"))
