"""A connection to a monitor on which QEMU has begun to speak; or the reason why there is none.

QEMU serves one client at a time, lets about one more wait in silence, and turns the others away.  A gdbstub is
silent too, or tells of the stop that a mere connection is to its guest, for ever if nobody tells it to go on.  So
both are answered with the gdb remote protocol's *detach*: a gdbstub resumes its guest and acknowledges.  A QMP server
that was only busy finds the connection closed when its turn comes, and what was sent there is lost.
"""

from __future__ import annotations

import re
import select
import socket
import time
from contextlib import suppress

from kvmtools.attach.monitor import address as addresses
from kvmtools.errors import AttachError, UsageError

PATIENCE = 1.0
"""Seconds of silence after which a connection is taken for a gdbstub's, or for one that must wait for its turn."""
_DETACH = (b"$D#44", b"$D;1#b0")
"""Ways to say it: after a client that knew of several processes, QEMU demands the number of one (gdbstub.c, 7.2)."""
_REPLY = re.compile(rb"\$(OK|E[0-9a-f]{2})#")
QMP = b"{"
HUMAN = b"QEMU "
"""How each monitor does: with a JSON object, or ``QEMU 7.2.22 monitor - type 'help' for more information``."""
GDB = (b"+", b"$")
"""How a gdbstub begins to speak: with an acknowledgement, or a packet."""
_GLANCE = 0.02  # seconds between two tries to get into a full queue
_ECHO = 0.25  # seconds in which a gdbstub acknowledges a packet


def greeted(address: str, seconds: float) -> socket.socket:
    """A connected, blocking socket from which the greeting can be read.

    :param address: a path, or ``host:port``
    :param seconds: how long to wait for QEMU's other clients
    :raises AttachError: if nobody listens there, it is a gdbstub, or QEMU is still busy in the end
    """
    if not addresses.is_tcp(address):
        addresses.demand_socket(address, "qmp")
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = addresses.connect(address, left)
        except BlockingIOError:
            time.sleep(min(_GLANCE, left))
            continue
        except TimeoutError:
            break
        except OSError as error:
            raise explained(address, error) from error
        if _speaks(address, connection, min(left, PATIENCE)):
            return connection
    from kvmtools.attach.monitor.served import served_at

    other = served_at(address)
    if other is not None:
        raise AttachError(
            f"{address}: no greeting of a monitor within {seconds:g} s: it serves {other}",
            hint="a monitor serves one client at a time: wait for that one, or end it",
        )
    raise AttachError(
        f"{address}: no greeting of a monitor within {seconds:g} s",
        hint="a monitor serves one client at a time: close the other, or give QEMU a second socket",
    )


def monitor_at(address: str) -> str:
    """The kind of monitor that greets at ``address``; ``""`` if none does.  A gdbstub's guest runs afterwards."""
    try:
        with greeted(address, PATIENCE) as connection:
            return "the human monitor" if is_human(connection) else "QMP"
    except (AttachError, UsageError):
        return ""


def is_human(connection: socket.socket) -> bool:
    """Whether it is the human monitor that has begun to speak."""
    return connection.recv(len(HUMAN), socket.MSG_PEEK) == HUMAN


def _speaks(address: str, connection: socket.socket, seconds: float) -> bool:
    """Whether the other end speaks within ``seconds``; ``connection`` is closed if not.

    :raises AttachError: if it is a gdbstub
    """
    speaks = False
    try:
        if select.select([connection], [], [], seconds)[0]:
            speaks = connection.recv(1, socket.MSG_PEEK) not in GDB
    except ConnectionError:
        pass
    finally:
        # Also if we are interrupted: a gdbstub's guest stands still by now.
        answer = b"" if speaks else detach(connection)
    if answer.startswith(GDB):
        raise AttachError(
            f"{address} looks like QEMU's GDB socket, not a monitor's",
            hint="give it with --gdb, which is enough",
        )
    if speaks:
        connection.setblocking(True)
    return speaks


def detach(connection: socket.socket) -> bytes:
    """Hang up so that a gdbstub lets its guest run; what it answers.

    A stop that it told of may lie before its reply: who hangs up on that unread takes back what was sent.
    """
    answer = b""
    with connection, suppress(OSError):
        connection.settimeout(_ECHO)
        for packet in _DETACH:
            connection.sendall(packet)
            while not (reply := _REPLY.search(answer)) and (more := connection.recv(64)):
                answer += more
            if reply is None or reply[1] == b"OK":
                break
            answer = answer.replace(reply[0], b"")
    return answer


def explained(address: str, error: OSError, *, hint: str = "") -> AttachError:
    """Why there is no connection, in the words of the person who typed the address.

    :param hint: what to do if nobody listens there
    """
    if isinstance(error, ConnectionRefusedError):
        return AttachError(
            f"nobody listens on {address}",
            hint=hint or ("" if addresses.is_tcp(address) else "its QEMU has ended"),
        )
    if isinstance(error, PermissionError):
        return AttachError(f"{address}: permission denied", hint="run as the user who started QEMU")
    return AttachError(f"cannot connect to {address}: {error.strerror or error}")
