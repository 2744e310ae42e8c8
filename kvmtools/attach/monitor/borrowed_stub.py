"""A gdbstub of any running QEMU: its own, or one that it opens for us and closes again.

The human monitor's ``gdbserver`` opens one and closes the one that there was (QEMU ``gdbserver_start``): so it is asked
only where there is none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from kvmtools.attach.monitor import gdbstub
from kvmtools.attach.monitor.endings import Endings
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError

_OPENED = "Waiting for gdb connection on device"
_CLOSED = "Disabled gdbserver"


@contextmanager
def borrowed_stub(monitor: Monitor) -> Iterator[str]:
    """The address of a gdbstub, for the length of a ``with``.

    :raises AttachError: if QEMU serves gdb to somebody else, or where we cannot come to, or opens no socket in a folder
        of ours
    """
    served = gdbstub.served(monitor)
    if served is not None:
        yield served
        return
    endings = Endings()
    endings.take()
    try:
        with tempfile.TemporaryDirectory(prefix="kvmtools-gdb-") as folder:
            path = os.path.join(folder, "gdb")
            try:
                answer = monitor.hmp(f"gdbserver unix:{path},server=on,wait=off")
                if _OPENED not in answer:
                    raise AttachError(f"QEMU opens no gdbstub for us: {' '.join(answer.split())}")
                yield path
            finally:
                # Also if we were interrupted before it had answered.
                closed = monitor.hmp("gdbserver none")
        if _CLOSED not in closed:
            raise AttachError(
                f"QEMU did not close its gdbstub: {closed.strip()}",
                hint=f"`gdbserver none` at {monitor.address}",
            )
    finally:
        endings.give_back()
