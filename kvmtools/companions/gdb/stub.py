"""What gdb knows of the guest that it is connected to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

import gdb

Method = TypeVar("Method", bound=Callable[..., Any])


def in_one_line(method: Method) -> Method:
    """What gdb refuses inside of it is refused as a command of gdb's own does; else Python's names would be told."""

    @wraps(method)
    def refusing(*args: Any) -> Any:
        try:
            return method(*args)
        except gdb.error as error:
            raise gdb.GdbError(" ".join(str(error).split())) from None

    return refusing  # type: ignore[return-value]


def connection() -> gdb.TargetConnection:
    """The way to QEMU of the inferior that is selected.

    :raises gdb.GdbError: if there is none
    """
    found = gdb.selected_inferior().connection
    if found is None or not found.type.endswith("remote"):
        raise gdb.GdbError("gdb is not connected to a QEMU (target remote ADDRESS)")
    return found


def monitor(line: str) -> str:
    """The answer of QEMU's human monitor.

    :raises gdb.error: if gdb cannot ask now, because the guest runs or the connection is gone
    """
    return gdb.execute(f"monitor {line}", from_tty=False, to_string=True)


def symbol_file() -> str | None:
    """The vmlinux that gdb has symbols from, if any."""
    space = gdb.current_progspace()
    main = None if space is None else space.filename
    return main or next((one.filename for one in gdb.objfiles() if one.owner is None), None)


def cpu() -> int:
    """The number of the vCPU whose thread is selected; QEMU's stub counts from 1 (``gdb_get_cpu_index``, gdbstub/).

    :raises gdb.GdbError: if none is
    """
    thread = gdb.selected_thread()
    if thread is None:
        raise gdb.GdbError("no thread is selected")
    _process, number, _thread = thread.ptid
    return number - 1


def to_qemu() -> socket.socket | None:
    """Gdb's own socket to the stub, once more, for the caller to close: whoever made its other end is QEMU.

    ``None`` if gdb reaches the stub otherwise, or has several such sockets.
    """
    found = list(_connected())
    if len(found) == 1:
        return found[0]
    for each in found:
        each.close()
    return None


def _connected() -> Iterator[socket.socket]:
    """Those of gdb's sockets that it connected to somebody's address."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile, or no socket
            one = socket.socket(fileno=os.dup(int(name)))
            if _has_peer(one):
                yield one
            else:
                one.close()


def _has_peer(one: socket.socket) -> bool:
    """Whether it leads to an address; the two ends of a pair have none."""
    try:
        return one.type == socket.SOCK_STREAM and bool(one.getpeername())
    except OSError:
        return False
