"""A GDB socket that is named is one, and this guest's; whatever it is, the guest runs on."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from kvmtools.attach.monitor import gdbstub
from kvmtools.attach.monitor.gdbstub import demand_gdbstub, is_taken
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.errors import AttachError

SERVER = ("#chr050", "gdb")
"""What QEMU keeps beside the socket's own device once it serves gdb."""


class Listener:
    """Somebody at ``gdb.sock`` who says ``greeting`` and, asked, ``answer``; told to detach, lets ``guest`` run."""

    def __init__(self, path: Path, guest: Any, greeting: bytes, answer: bytes) -> None:
        self.clients = 0
        self._guest, self._greeting, self._answer = guest, greeting, answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                with self._listener.accept()[0] as client:
                    self.clients += 1
                    self._converse(client)

    def _converse(self, client: socket.socket) -> None:
        if self._guest:
            self._guest.running = False
        client.sendall(self._greeting)
        with suppress(OSError):
            while packets := client.recv(256):
                client.sendall(self._answer)
                if b"$D#44" in packets and self._answer.startswith(b"+"):
                    if self._guest:
                        self._guest.running = True
                    client.sendall(b"$OK#9a")

    def close(self) -> None:
        self._listener.close()


Listen = Callable[..., Listener]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gdbstub, "_SECONDS", 0.2)
    return tmp_path / "gdb.sock"


@pytest.fixture
def listen(path: Path) -> Iterator[Listen]:
    with ExitStack() as stack:

        def start(guest: Any = None, greeting: bytes = b"", answer: bytes = b"") -> Listener:
            return stack.enter_context(closing(Listener(path, guest, greeting, answer)))

        yield start


def demand(fake: Any, address: str, *, may_stop: bool = True) -> None:
    with QmpMonitor(str(fake.path)) as monitor:
        demand_gdbstub(address, monitor, may_stop=may_stop)


@pytest.mark.parametrize("prefix", ["", "disconnected:"])
def test_what_qemu_says_is_enough(fake_qmp: Any, listen: Listen, path: Path, prefix: str) -> None:
    listener = listen(fake_qmp)
    fake_qmp.chardevs = [SERVER, ("gdb", f"{prefix}unix:{path},server=on")]
    demand(fake_qmp, str(path))
    link = path.with_name("link")
    link.symlink_to(path)
    demand(fake_qmp, str(link))
    assert "stop" not in fake_qmp.seen
    assert not listener.clients


@pytest.mark.parametrize(
    "address", ["localhost:1234", ":1234", "127.0.0.1:1234", "0.0.0.0:1234", "[::1]:1234"]
)
def test_a_port_has_many_names(fake_qmp: Any, address: str) -> None:
    fake_qmp.chardevs = [SERVER, ("gdb", "disconnected:tcp:0.0.0.0:1234,server=on")]
    demand(fake_qmp, address)
    assert "stop" not in fake_qmp.seen


@pytest.mark.parametrize("may_stop", [False, True])
@pytest.mark.parametrize("running", [False, True])
def test_a_qemu_without_gdb_is_told_from_its_own_word(fake_qmp: Any, may_stop: bool, running: bool) -> None:
    fake_qmp.running = running
    fake_qmp.chardevs = [("serial0", "vc"), ("compat_monitor0", f"unix:{fake_qmp.path},server=on")]
    with pytest.raises(AttachError, match=r"localhost:1: this QEMU serves no gdb \(start QEMU with -gdb"):
        demand(fake_qmp, "localhost:1", may_stop=may_stop)
    assert fake_qmp.running == running
    assert "stop" not in fake_qmp.seen


def test_nobody_listens(fake_qmp: Any, path: Path, tmp_path: Path) -> None:
    fake_qmp.chardevs = [SERVER, ("gdb", f"disconnected:unix:{tmp_path / 'other'},server=on")]
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(
        AttachError, match=r"nobody listens on .*gdb.sock \(QEMU says that it serves gdb at .*other\)"
    ):
        demand(fake_qmp, str(path))
    with pytest.raises(AttachError, match="nobody listens on localhost:1 "):
        demand(fake_qmp, "localhost:1")
    assert fake_qmp.running


ELSEWHERE = [SERVER, ("gdb", "disconnected:unix:run/gdb.sock,server=on")]


@pytest.mark.parametrize(
    "chardevs", [ELSEWHERE, [SERVER, ("mine", "disconnected:tcp:0.0.0.0:1234,server=on")]]
)
def test_another_name_of_the_same_socket_is_tried(
    fake_qmp: Any, listen: Listen, path: Path, chardevs: list[tuple[str, str]]
) -> None:
    fake_qmp.chardevs = chardevs
    listener = listen(fake_qmp, answer=b"+$PacketSize=1000#00")
    demand(fake_qmp, str(path))
    assert listener.clients == 1
    assert fake_qmp.running


@pytest.mark.parametrize(
    ("greeting", "answer", "why"),
    [
        (b'{"QMP": {}}', b"", "is QMP's socket, not QEMU's GDB socket"),
        (b"QEMU 7.2 monitor", b"", "does not answer as a GDB socket"),
        (b"", b"", "does not answer as a GDB socket"),
        (b"", b"+$PacketSize=1000#00", "is the GDB socket of another guest"),
        (b"$T02thread:01;#04", b"+$PacketSize=1000#00", "is the GDB socket of another guest"),
    ],
)
def test_what_is_another_thing_is_named(
    fake_qmp: Any, listen: Listen, path: Path, greeting: bytes, answer: bytes, why: str
) -> None:
    fake_qmp.chardevs = ELSEWHERE
    listen(None, greeting, answer)
    with pytest.raises(AttachError, match=f"gdb.sock {why}"):
        demand(fake_qmp, str(path))
    assert fake_qmp.running


def test_the_qmp_socket_itself(fake_qmp: Any) -> None:
    with pytest.raises(AttachError, match="is QMP's socket"):
        demand(fake_qmp, str(fake_qmp.path))


def test_no_harm_is_done_to_find_it_out(fake_qmp: Any, listen: Listen, path: Path) -> None:
    """Not to a guest that is not to be paused, nor to one that is, nor behind a client that will leave one day."""
    listener = listen(fake_qmp, answer=b"+$PacketSize=1000#00")
    fake_qmp.chardevs = ELSEWHERE
    demand(fake_qmp, str(path), may_stop=False)
    fake_qmp.running = False
    demand(fake_qmp, str(path))
    fake_qmp.running = True
    fake_qmp.chardevs = [SERVER, ("gdb", "unix:run/gdb.sock,server=on")]
    demand(fake_qmp, str(path))
    assert not listener.clients
    assert fake_qmp.running


def test_an_interrupt_lets_the_guest_run(
    fake_qmp: Any, listen: Listen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(connection: socket.socket) -> bytes:
        connection.recv(1)  # by now the stub has stopped its guest
        raise KeyboardInterrupt

    listen(fake_qmp, greeting=b"+", answer=b"+$PacketSize=1000#00")
    fake_qmp.chardevs = ELSEWHERE
    monkeypatch.setattr(gdbstub, "_first_byte", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demand(fake_qmp, str(path))
    assert fake_qmp.running


def test_whether_a_client_is_there(fake_qmp: Any, path: Path) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        for name, taken in ((f"disconnected:unix:{path},server=on", False), (f"unix:{path},server=on", True)):
            fake_qmp.chardevs = [SERVER, ("gdb", name)]
            assert is_taken(str(path), monitor) is taken
        fake_qmp.chardevs = [SERVER, ("gdb", "tcp:0.0.0.0:1234,server=on <-> 127.0.0.1:4321")]
        assert is_taken("localhost:1234", monitor), "QEMU's own name of it is another"
    assert not os.path.exists(path)


def test_a_socket_called_gdb_in_our_own_folder_is_not_taken(
    fake_qmp: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What QEMU keeps beside the socket's device is called so, too, and is never disconnected."""
    place = path.with_name("gdb")
    place.touch()
    monkeypatch.chdir(place.parent)
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        fake_qmp.chardevs = [SERVER, ("gdb", f"disconnected:unix:{place},server=on")]
        assert not is_taken(str(place), monitor)
        assert not is_taken("gdb", monitor)
        fake_qmp.chardevs = [SERVER, ("gdb", f"unix:{place},server=on")]
        assert is_taken("gdb", monitor)
