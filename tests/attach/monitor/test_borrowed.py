"""A QMP connection that another part of this process opened."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kvmtools.attach.monitor import borrowed
from kvmtools.attach.monitor.borrowed import BorrowedQmp, borrow
from kvmtools.errors import AttachError, GuestVanished


@pytest.fixture
def drgns(fake_qmp: Any) -> Iterator[socket.socket]:
    """The socket of somebody who has been greeted."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(fake_qmp.path))
        with connection.makefile("rw") as lines:
            assert "QMP" in lines.readline()
            lines.write(json.dumps({"execute": "qmp_capabilities"}) + "\n")
            lines.flush()
            assert "return" in lines.readline()
        yield connection


@pytest.fixture
def only_mine(drgns: socket.socket, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Whatever else the process that runs the tests has open is not looked at."""
    found = borrowed._connections

    def of_the_fake() -> Iterator[socket.socket]:
        for each in found():
            if each.getpeername() == drgns.getpeername():
                yield each
            else:
                each.close()

    monkeypatch.setattr(borrowed, "_connections", of_the_fake)
    return drgns


def test_it_is_found_and_used_by_turns(only_mine: socket.socket, fake_qmp: Any) -> None:
    with borrow() as monitor:
        assert monitor.address == str(fake_qmp.path)
        assert "\r" not in monitor.hmp("info registers -a")
        assert "EIP=" in monitor.hmp("info registers -a")
    only_mine.sendall(b'{"execute": "query-status"}\r\n')
    assert b"running" in only_mine.recv(4096), "the other's own descriptor is open and in step"


def test_events_and_the_rest_of_a_line_are_passed_over() -> None:
    ours, theirs = socket.socketpair()
    monitor = BorrowedQmp(ours)
    theirs.sendall(
        b'1, "microseconds": 2}}\r\n{"event": "STOP"}\r\n{"return": "old", "id": "kvmtools-0"}\r\n'
        b'[]\r\n{"return": "new", "id": "kvmtools-1"}\r\n{"error": {"desc": "no"}, "id": "kvmtools-2"}\r\n'
    )
    assert monitor.hmp("info status") == "new"
    with pytest.raises(AttachError, match="QEMU refused human-monitor-command: no"):
        monitor.hmp("info status")
    theirs.close()
    with pytest.raises(GuestVanished):
        monitor.hmp("info status")
    monitor.close()


def test_nobody_can_connect_again(only_mine: socket.socket) -> None:
    with borrow() as monitor, pytest.raises(AttachError, match="serves one client, and drgn is that"):
        monitor.again(1.0)


def test_none_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borrowed, "_connections", lambda: iter(()))
    with pytest.raises(AttachError, match="0 connections"):
        borrow()


def test_of_two_the_one_to_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    ends = [pair[0] for pair in pairs]
    monkeypatch.setattr(borrowed, "_connections", lambda: iter([end.dup() for end in ends]))
    with pytest.raises(AttachError, match=r"2 connections.*one guest"):
        borrow()
    inode = os.fstat(ends[1].fileno()).st_ino
    monkeypatch.setattr(borrowed, "_is_qemu", lambda each: os.fstat(each.fileno()).st_ino == inode)
    with borrow() as monitor:
        pairs[1][1].sendall(b'{"return": "mine", "id": "kvmtools-1"}\r\n')
        assert monitor.hmp("info status") == "mine"
    for pair in pairs:
        for end in pair:
            end.close()
