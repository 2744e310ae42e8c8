"""Whether a QEMU serves gdb where somebody says that it does, asked with as little harm as possible.

QEMU itself tells what it serves and where (QMP ``query-chardev``).  A connection, which stops the guest for a moment,
is made only where QEMU's word does not settle it: the same socket may have another name, such as a forwarded port or a
path as seen from QEMU's own folder.
"""

from __future__ import annotations

import os
import re
import select
import socket
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from kvmtools.attach.monitor import address as addresses
from kvmtools.attach.monitor import greeting
from kvmtools.attach.monitor.answers import Chardev
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.attach.monitor.pause import PausedGuest
from kvmtools.errors import AttachError, UsageError

_LABEL = "gdb"
"""Of the character device that ``-gdb`` and ``-s`` make (``gdbserver_start``, QEMU gdbstub/system.c).  Another one that
QEMU keeps beside it has this for its *filename*, which is no file's.
"""
_NOBODY_S = {_LABEL, "", "vc", "null", "file", "ringbuf", "memory", "mux", "spicevmc"}
"""Kinds of character devices at which no gdb can be."""
_NOT_GDBS = re.compile(r"(compat_monitor|serial|parallel|charserial|charchannel|charconsole)\d+|charmonitor")
"""Labels of devices that QEMU makes for its other options, and libvirt for its own."""
_USES = re.compile(r"(?:^|,)chardev[=:]([^,]+)")
_DISCONNECTED = "disconnected:"
_HELLO = b"$qSupported#37"
_SECONDS = 1.0
_START = "start QEMU with -gdb unix:PATH,server=on,wait=off"


def demand_gdbstub(address: str, monitor: Monitor, *, may_stop: bool) -> None:
    """Return if the QEMU behind ``monitor`` serves gdb at ``address``, or if it cannot be told without harm.

    :param may_stop: whether the guest may be held for a moment
    :raises AttachError: if that QEMU serves no gdb, or not there
    """
    if monitor.address == address:
        raise not_gdb(address, monitor.name)
    devices = monitor.chardevs()
    if not any(_LABEL in (device.label, device.filename) for device in devices):
        raise AttachError(f"{address}: this QEMU serves no gdb", hint=f"{_START}, or leave out --gdb")
    served = [device.filename for device in devices if device.label == _LABEL]
    if any(_is_same(address, name, monitor.address) for name in served):
        return
    # Behind another client we would stop the guest when that client has left and we are long gone.
    free = all(name.startswith(_DISCONNECTED) for name in served)
    if may_stop and free and monitor.running():
        where = addresses.plain(served[0].removeprefix(_DISCONNECTED)) if served else ""
        _stop_and_greet(address, monitor, f"QEMU says that it serves gdb at {where}" if where else _START)


def served(monitor: Monitor) -> str | None:
    """Where QEMU serves gdb, by its own word; None if it does not.

    :raises AttachError: if it has a client there already, the socket is not one that we can come to, or QEMU may serve
        gdb at a device of the user's (``-gdb chardev:ID``)
    """
    devices = monitor.chardevs()
    for device in devices:
        if device.label == _LABEL:
            address = addresses.plain(device.filename.removeprefix(_DISCONNECTED))
            if not device.filename.startswith(_DISCONNECTED):
                raise AttachError(
                    f"another client is connected to {address}",
                    hint="the gdbstub serves one client at a time",
                )
            addresses.demand_socket(address, "gdb")
            return address
    # What QEMU keeps beside a gdbstub outlives that; so it tells nothing where no other device can be gdb's.
    if any(device.filename == _LABEL for device in devices):
        others = [device.label for device in devices if _may_be_gdbs(device, monitor.address)]
        if others:
            known = _others_on_the_command_line(monitor)
            others = [label for label in others if label not in known]
        if others:
            raise AttachError(
                f"this QEMU serves gdb, or did, maybe at its character device {' or '.join(others)}",
                hint="give its address with --gdb",
            )
    return None


def is_taken(address: str, monitor: Monitor) -> bool:
    """Whether QEMU says that its gdbstub there has a client already."""
    names = (device.filename for device in monitor.chardevs())
    return any(
        not name.startswith(_DISCONNECTED) and name != _LABEL and _is_same(address, name, monitor.address)
        for name in names
    )


def not_gdb(address: str, kind: str) -> AttachError:
    """What to say of a monitor's socket; ``kind`` is the monitor's name."""
    return AttachError(f"{address} is {kind}'s socket, not QEMU's GDB socket", hint=_START)


def _may_be_gdbs(device: Chardev, monitor: str) -> bool:
    """Whether gdb may be served at a device: it leads somewhere, and its name does not tell that it is another's."""
    kind = device.filename.partition(":")[0]
    return not (
        kind in _NOBODY_S or _NOT_GDBS.fullmatch(device.label) or _is_same(monitor, device.filename, monitor)
    )


def _others_on_the_command_line(monitor: Monitor) -> set[str]:
    """The labels that QEMU's command line gives to its monitors and devices; none if it is not to be seen."""
    with suppress(AttachError, OSError):
        words = Path(f"/proc/{monitor.peer_pid()}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return {
            found[1]
            for option, value in pairwise(words)
            if option.lstrip("-") in ("mon", "device", "serial")
            for found in _USES.finditer(value)
        }
    return set()


def _is_same(address: str, name: str, qmp: str) -> bool:
    """Whether QEMU's name of a socket means ``address``.

    :param qmp: the address of QEMU's QMP socket: QEMU is on that host
    """
    try:
        name = addresses.plain(name.removeprefix(_DISCONNECTED))
    except UsageError:  # udp::0, which nobody can have typed
        return False
    if addresses.is_tcp(address) != addresses.is_tcp(name):
        return False
    if not addresses.is_tcp(address):
        return name == address or (os.path.exists(name) and os.path.samefile(name, address))
    hosts = {"", "localhost", "127.0.0.1", "[::1]", *([_host(qmp)] if addresses.is_tcp(qmp) else [])}
    return name.rpartition(":")[2] == address.rpartition(":")[2] and _host(address) in {_host(name), *hosts}


def _host(address: str) -> str:
    return address.rpartition(":")[0]


def _stop_and_greet(address: str, monitor: Monitor, hint: str) -> None:
    """Connect, and say hello to whoever listens: a gdbstub stops its guest for that.  It ran, and runs afterwards.

    :raises AttachError: if nobody does, or it is not this guest's gdbstub
    """
    with PausedGuest(monitor):
        try:
            connection = addresses.connect(address, _SECONDS)
        except OSError as error:
            raise greeting.explained(address, error, hint=hint) from error
        with connection:
            answer = _first_byte(connection)
            if answer in greeting.GDB:
                greeting.detach(connection)
        # A gdbstub that is told to detach lets its guest run, whoever else stopped that.
        is_ours = monitor.running()
    if answer == greeting.QMP:
        raise not_gdb(address, "QMP")
    if answer not in greeting.GDB:
        raise AttachError(f"{address} does not answer as a GDB socket", hint=hint)
    if not is_ours:
        raise AttachError(f"{address} is the GDB socket of another guest", hint=hint)


def _first_byte(connection: socket.socket) -> bytes:
    """What the other end says first; nothing if it is silent, or hangs up."""
    try:
        connection.sendall(_HELLO)
        if select.select([connection], [], [], _SECONDS)[0]:
            return connection.recv(1, socket.MSG_PEEK)
    except OSError:
        pass
    return b""
