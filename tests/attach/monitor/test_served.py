"""Who is served at a socket: another process of ours that was accepted, with its command line."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kvmtools.attach.monitor.greeting import greeted
from kvmtools.attach.monitor.served import served_at
from kvmtools.errors import AttachError

CLIENT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    print("connected", flush=True)
    sys.stdin.read()
"""


def test_who_is_served_is_told_with_its_command_line(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    script = tmp_path / "busy client"
    script.write_text(CLIENT)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert served_at(str(path)) is None
        words = [sys.executable, str(script), str(path), "--word"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "connected\n"
            assert served_at(str(path)) is None  # it waits for its turn
            connection, _ = server.accept()
            with connection:
                expected = f"process {client.pid} (busy client {path} --word)"
                assert served_at(str(path)) == expected
                (tmp_path / "link").symlink_to(path)
                assert served_at(str(tmp_path / "link")) == expected
                with pytest.raises(AttachError, match="it serves process") as caught:
                    greeted(str(path), 0.1)
                assert expected in caught.value.message
                assert "end it" in caught.value.hint
            client.communicate()
        assert served_at(str(path)) is None


def test_nobody_is_told_of_oneself_or_of_what_is_no_path(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as own:
        server.bind(str(path))
        server.listen()
        own.connect(str(path))
        with server.accept()[0]:
            assert served_at(str(path)) is None
    assert served_at("localhost:1234") is None
    assert served_at(str(tmp_path / "missing")) is None
