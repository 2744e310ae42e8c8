from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmtools.attach.monitor.address import connect
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.errors import AttachError, GuestVanished


def test_commands_and_their_arguments(fake_qmp: Any) -> None:
    fake_qmp.handlers["qom-get"] = lambda fake, arguments: arguments
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        assert monitor.command("query-status") == {"status": "running", "running": True}
        assert monitor.command("qom-get", mem_path="/x", begin=0) == {"mem-path": "/x", "begin": 0}


def test_the_human_monitor_has_plain_line_feeds(fake_qmp: Any) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        assert "\r" not in monitor.hmp("info registers -a")


def test_a_refusal_names_the_command_and_the_reason(fake_qmp: Any) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        with pytest.raises(
            AttachError, match=r"QEMU refused no-such: The command no-such has not been found"
        ):
            monitor.command("no-such")
        assert monitor.command("query-status")["running"], "the connection is still good"


def test_two_monitors_take_turns(fake_qmp: Any) -> None:
    for _ in range(3):
        with QmpMonitor(str(fake_qmp.path)) as monitor:
            monitor.command("query-status")


def test_a_busy_socket_is_recognised(fake_qmp: Any) -> None:
    with (
        QmpMonitor(str(fake_qmp.path)),
        pytest.raises(
            AttachError, match=r"no greeting of a monitor within 0.2 s .*serves one client at a time"
        ),
    ):
        QmpMonitor(str(fake_qmp.path), greeting_seconds=0.2)


def test_a_mute_socket_is_no_qmp(start_qmp: Callable[..., Any]) -> None:
    with pytest.raises(AttachError, match="no greeting of a monitor"):
        QmpMonitor(str(start_qmp(mute=True).path), greeting_seconds=0.2)


@pytest.mark.parametrize("greeting", [b"QEMU 7.2.22 monitor - type 'help'\r\n", b'{"hello": 1}\r\n'])
def test_another_protocol_is_no_qmp(start_qmp: Callable[..., Any], greeting: bytes) -> None:
    with pytest.raises(AttachError, match="does not speak QMP"):
        QmpMonitor(str(start_qmp(greeting=greeting).path))


def test_no_socket(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match="there is no socket"):
        QmpMonitor(str(tmp_path / "none"))


def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(AttachError, match="nobody listens"):
        QmpMonitor(str(path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(AttachError, match=f"127.0.0.1:{port}"):
            QmpMonitor(f"127.0.0.1:{port}")


def test_a_qmp_may_be_a_tcp_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with connect(f"127.0.0.1:{server.getsockname()[1]}", 5.0) as ours, server.accept()[0] as theirs:
            theirs.sendall(b"hello")
            assert ours.recv(5) == b"hello"
            assert ours.gettimeout() == 5.0
        with connect(f":{server.getsockname()[1]}", 5.0) as ours:
            assert ours.getpeername() == server.getsockname()


def test_a_guest_that_dies_between_commands_has_vanished(fake_qmp: Any) -> None:
    monitor = QmpMonitor(str(fake_qmp.path))
    fake_qmp.die()
    with pytest.raises(GuestVanished) as caught:
        monitor.command("query-status")
    assert "\n" not in str(caught.value)
    with pytest.raises(GuestVanished):
        monitor.hmp("info status")
    monitor.close()


def test_a_guest_that_dies_during_a_command_has_vanished(fake_qmp: Any) -> None:
    fake_qmp.handlers["stop"] = lambda fake, _: fake.die()
    monitor = QmpMonitor(str(fake_qmp.path))
    with pytest.raises(GuestVanished, match="is gone"):
        monitor.command("stop")
    monitor.close()


def test_closing_twice_is_once_and_leaves_no_thread(fake_qmp: Any) -> None:
    monitor = QmpMonitor(str(fake_qmp.path))
    monitor.close()
    monitor.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qmp ")]
    with pytest.raises(AttachError, match="closed"):
        monitor.command("query-status")


def test_the_other_end_is_found(fake_qmp: Any) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        assert monitor.peer_pid() == os.getpid()


def test_a_lent_file_is_the_same_file(fake_qmp: Any, tmp_path: Path) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor, (tmp_path / "lent").open("w+b") as file:
        with monitor.lent(file.fileno()) as path:
            assert len(fake_qmp.lent) == 1
            Path(path).write_bytes(b"from QEMU")
        assert file.read() == b"from QEMU"
        assert not fake_qmp.lent


def test_a_lent_file_is_taken_back_whatever_happens(fake_qmp: Any, tmp_path: Path) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor, (tmp_path / "lent").open("w+b") as file:
        with pytest.raises(KeyboardInterrupt), monitor.lent(file.fileno()):
            raise KeyboardInterrupt
        assert not fake_qmp.lent
        fake_qmp.handlers["stop"] = lambda fake, _: fake.die()
        with pytest.raises(GuestVanished), monitor.lent(file.fileno()):
            monitor.command("stop")
