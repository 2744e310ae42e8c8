"""What our process answers to a user's gdb, and asks of it; the gdb is a thread here, the guest a recording."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import socket, socketpair
from typing import Any

import pytest
from opened_kernel import recorded_session

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session
from kvmtools.attach.monitor.user_gdb import UserGdbMonitor
from kvmtools.cli.gdb_service import Service
from kvmtools.cli.options import OPENER
from kvmtools.errors import AttachError, SymbolsError


class Gdb:
    """The other end of the channel; answers of its monitor by line."""

    def __init__(self, channel: socket) -> None:
        self._channel, self._lines = channel, channel.makefile("r")
        self.monitor = {"info status": {"answer": "VM status: paused\r\n"}}
        self.asked: list[str] = []

    def ask(self, request: str, **more: Any) -> dict[str, Any]:
        self._send({"request": request, "symbols": "vmlinux", **more})
        while "monitor" in (said := json.loads(self._lines.readline())):
            self.asked.append(said["monitor"])
            self._send(self.monitor.get(said["monitor"], {"refused": "Remote connection closed."}))
        answer: dict[str, Any] = said
        return answer

    def _send(self, message: dict[str, Any]) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def hang_up(self) -> None:
        self._lines.close()
        self._channel.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The symbols that a kernel was opened with, each time; whoever opens asks for the run state, as attaching does."""
    found: list[str | None] = []

    def open_in_gdb(ask: Any, address: str, _connection: object, *, symbols: str | None) -> OpenKernel:
        assert not UserGdbMonitor(ask, address).running()
        found.append(symbols)
        return OpenKernel(recorded_session("pae"))

    monkeypatch.setattr(Session, "find_again", lambda _session: None)
    monkeypatch.setattr("kvmtools.api.opening.open_in_gdb", open_in_gdb)
    return found


@pytest.fixture
def gdb(opened: list[str | None]) -> Iterator[Gdb]:
    ours, theirs = socketpair()

    def serve() -> None:  # a thread has a context, and so an opener, of its own
        Service(theirs, "localhost:1234").serve()

    thread = threading.Thread(target=serve)
    thread.start()
    gdb = Gdb(ours)
    yield gdb
    gdb.hang_up()
    thread.join(20)
    theirs.close()
    assert not thread.is_alive()


def test_a_command_is_the_command_line_s(gdb: Gdb, opened: list[str | None]) -> None:
    answer = gdb.ask("command", words=["vtop", "swapper_pg_dir"])
    assert (answer["code"], answer["err"]) == (0, "")
    assert answer["out"].endswith("\n")
    assert "[swapper_pg_dir]" in answer["out"]
    assert gdb.ask("command", words=["vtop", "0"])["code"] == 1
    assert opened == ["vmlinux"], "it is opened once"
    assert gdb.ask("command", words=["layout", "-s", "other"])["code"] == 0
    assert opened == ["vmlinux", "other"]


def test_another_kernel_is_opened_anew(
    gdb: Gdb, opened: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its vmlinux may have the name of the old one's."""

    def find_again(_session: Session) -> None:
        raise SymbolsError("the guest runs another kernel")

    gdb.ask("command", words=["layout"])
    monkeypatch.setattr(Session, "find_again", find_again)
    assert gdb.ask("command", words=["layout"])["code"] == 0
    assert opened == ["vmlinux", "vmlinux"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["vtop", "zork"], 2, "kvmtools: 'zork' is neither an address nor a symbol"),
        (["vtop", "-"], 2, "kvmtools: stdin is closed"),
        (["vtop", "--qemu", "q", "0"], 2, "kvmtools: --qemu names another guest than gdb's (leave it out)"),
        (["vtop", "--libvirt", "d", "0"], 2, "kvmtools: --libvirt names another guest than gdb's"),
        (["zork"], 2, "Usage: "),
    ],
)
def test_a_complaint_comes_with_its_code(
    gdb: Gdb, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as in our process
    answer = gdb.ask("command", words=words)
    assert (answer["code"], answer["out"]) == (code, "")
    assert answer["err"].startswith(said)


def test_values(gdb: Gdb) -> None:
    kernel = OpenKernel(recorded_session("pae"))
    way = kernel.vtop("swapper_pg_dir")
    address = kernel.address("swapper_pg_dir")
    for asked in ("swapper_pg_dir", address):
        assert gdb.ask("entry", address=asked, cpu=None)["value"] == way.steps[-1].entry
    assert gdb.ask("entry", address=0, cpu=None)["value"] == kernel.vtop(0).steps[-1].entry
    assert gdb.ask("page", pfn=16)["value"] == kernel.page(16).page
    assert gdb.ask("slide")["value"][0] == kernel.slide
    refused = gdb.ask("page", pfn=1 << 24)
    assert (refused["code"], "value" in refused) == (2, False)


def test_a_packed_vmlinux_is_not_for_gdb(gdb: Gdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenKernel, "vmlinux", Path("/built/vmlinux.xz"))
    answer = gdb.ask("slide")
    assert (answer["code"], "value" in answer) == (3, False)
    assert answer["err"] == (
        "kvmtools: /built/vmlinux.xz is packed, and gdb reads no such file"
        " (unpack it, and name what comes out: kvm symbols VMLINUX)\n"
    )


def test_completion(gdb: Gdb, opened: list[str | None]) -> None:
    def completed(incomplete: str, *words: str) -> list[str]:
        found: list[str] = gdb.ask("complete", words=[*words], incomplete=incomplete)["value"]
        return found

    assert completed("--onl", "check") == ["--only"]
    assert completed("pkmap.cou", "check", "--only") == ["pkmap.count-not-negative"]
    assert "pkmap" in completed("", "walk", "--region")
    assert not opened, "none of these needs the guest"
    assert "1" in completed("", "vtop", "--pid")
    assert opened == ["vmlinux"]


def test_what_gdb_refuses_is_an_error_in_its_words(gdb: Gdb) -> None:
    gdb.monitor.clear()
    answer = gdb.ask("command", words=["regs"])
    assert (answer["code"], answer["out"]) == (3, "")
    assert answer["err"] == "kvmtools: gdb: Remote connection closed\n"
    assert gdb.asked == ["info status"]


def test_the_guest_is_the_user_s() -> None:
    """Neither stopped, nor continued, nor ended, nor reached another way."""
    asked: list[str] = []
    monitor = UserGdbMonitor(lambda line: asked.append(line) or "", "gdb.sock")  # type: ignore[func-returns-value]
    for work in (monitor.stop, monitor.cont, monitor.quit):
        with pytest.raises(AttachError, match="your gdb holds the guest, which stays as it is"):
            work()
    with pytest.raises(AttachError, match=r"gdb\.sock: there is no other way to this QEMU"):
        monitor.again(1.0)
    assert asked == []
    monitor.close()


def test_a_host_of_our_commands_leaves_others_alone(gdb: Gdb) -> None:
    gdb.ask("command", words=["layout"])
    assert OPENER.get().__name__ == "_opened"
