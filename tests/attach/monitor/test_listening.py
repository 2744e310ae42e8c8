"""Who listens is found out without a connection."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kvmtools.attach.monitor.listening import Listener, listener_at


def test_a_unix_socket_by_any_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "stub")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("stub")  # as QEMU is told: relative to its own folder
        listener.listen()
        for name in ("stub", str(tmp_path / "stub"), "link"):
            assert listener_at(name) == Listener(os.getpid())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("stub")
            assert not listener_at("stub").taken, "it waits in the queue"
            with listener.accept()[0]:
                assert listener_at("stub") == Listener(os.getpid(), taken=True)
        assert listener_at("stub") == Listener(os.getpid())
    assert listener_at("stub") == Listener(None)


def test_another_socket_of_the_same_name_is_another(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with socket.socket(socket.AF_UNIX) as mine, socket.socket(socket.AF_UNIX) as theirs:
        for one, path in ((mine, tmp_path / "stub"), (theirs, tmp_path / "other/stub")):
            one.bind(str(path))
            one.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "other/stub"))
            with theirs.accept()[0]:
                assert not listener_at(str(tmp_path / "stub")).taken
                assert listener_at(str(tmp_path / "other/stub")).taken


@pytest.mark.parametrize(
    ("family", "host", "names"),
    [
        (socket.AF_INET, "127.0.0.1", ("127.0.0.1", "localhost", "")),
        (socket.AF_INET, "0.0.0.0", ("127.0.0.1", "localhost", "")),
        (socket.AF_INET6, "::1", ("[::1]",)),
        (socket.AF_INET6, "::", ("[::1]", "127.0.0.1", "localhost")),
    ],
)
def test_a_port_by_any_of_its_names(family: socket.AddressFamily, host: str, names: tuple[str, ...]) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        for name in names:
            assert listener_at(f"{name}:{port}") == Listener(os.getpid())
        with socket.create_connection((names[0].strip("[]"), port)):
            assert not listener_at(f"{names[0]}:{port}").taken, "it waits in the queue"
            with listener.accept()[0]:
                assert listener_at(f"{names[0]}:{port}").taken
    assert listener_at(f"{names[0]}:{port}") == Listener(None)


def test_what_is_on_no_host() -> None:
    assert listener_at("no.such.host.invalid:1") == Listener(None)
