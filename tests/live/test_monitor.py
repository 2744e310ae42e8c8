"""QMP serves one client at a time: the others wait, are told, and do no harm."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from bare_qemu import Machine

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.errors import AttachError


def test_a_busy_monitor(split: Machine) -> None:
    with (
        QmpMonitor(split.qmp),
        pytest.raises(AttachError, match="serves one client at a time"),
    ):
        QmpMonitor(split.qmp, greeting_seconds=0.3)


def test_gdb_s_socket_is_no_monitor_and_its_guest_runs_on(split: Machine) -> None:
    with pytest.raises(AttachError, match="looks like QEMU's GDB socket"):
        QmpMonitor(split.gdb)
    with QmpMonitor(split.qmp) as monitor:
        assert monitor.command("query-status")["running"]


def test_an_impatient_client_does_no_harm(split: Machine) -> None:
    """What it sent, taking the busy monitor for a gdbstub, is read by QEMU when it has long left."""
    with QmpMonitor(split.qmp) as first:
        with pytest.raises(AttachError, match="no greeting of a monitor"):
            QmpMonitor(split.qmp, greeting_seconds=1.5)
        assert first.command("query-status")["running"]
    with QmpMonitor(split.qmp) as monitor:
        assert monitor.command("query-status")["running"]


def test_who_never_hangs_up_is_not_shown_what_asyncio_thinks_of_it(split: Machine) -> None:
    code = f"from kvmtools.attach.monitor.qmp import QmpMonitor; m = QmpMonitor({split.qmp!r}); print(m.running())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_crowd_is_served_one_after_another(split: Machine) -> None:
    def ask(_: int) -> bool:
        with QmpMonitor(split.qmp) as monitor:
            return bool(monitor.command("query-status")["running"])

    with ThreadPoolExecutor(12) as crowd:
        assert all(crowd.map(ask, range(12)))
