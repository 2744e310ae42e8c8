"""What needs no guest; the rest of gdb is in tests/live/test_gdb.py."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from kvmtools.attach.monitor.gdb import Gdb
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.attach.open import open_target
from kvmtools.errors import AttachError


def test_a_machine_without_gdb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AttachError, match=r"gdb is not installed \(apt install gdb\)"):
        Gdb("localhost:1")


def test_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "left over"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(AttachError, match=r"gdb cannot connect to .*left over"):
        Gdb(str(path))


def test_a_failed_connection_leaves_the_guest_running(fake_qmp: Any, tmp_path: Path) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        with pytest.raises(AttachError):
            Gdb(str(tmp_path / "none"), monitor=monitor)
        assert fake_qmp.running


def test_a_qmp_socket_is_no_gdb_socket(fake_qmp: Any) -> None:
    with QmpMonitor(str(fake_qmp.path)) as monitor, pytest.raises(AttachError, match="is QMP's socket"):
        Gdb(str(fake_qmp.path), monitor=monitor)


def test_another_qmp_socket_is_no_gdb_socket(fake_qmp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmtools.attach.monitor.gdb._CONNECT_SECONDS", 1)
    with pytest.raises(AttachError, match="is QMP's socket"):
        Gdb(str(fake_qmp.path))


def test_a_gdb_socket_is_looked_for_before_anything_is_attached(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match=r"there is no socket .*none \(start QEMU with -gdb"):
        open_target(qemu=str(tmp_path / "qmp"), gdb=str(tmp_path / "none"))
