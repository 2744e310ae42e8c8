"""Where a socket is, in the words of the person who typed it."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from kvmtools.errors import AttachError, UsageError

_LAST_PORT = 65535
_DIGITS = 5


def plain(address: str) -> str:
    """The path or ``HOST:PORT`` in ``address``, which may be copied from QEMU's command line
    (``unix:PATH,server=on,wait=off``).

    :raises UsageError: if nothing is left, or no such port can be
    """
    kind, colon, rest = address.partition(":")
    if colon and kind in ("unix", "tcp"):
        address = rest.partition(",")[0]
    if not address:
        raise UsageError("an empty address names no socket", hint="give a path, or HOST:PORT")
    if is_tcp(address):
        port = address.rpartition(":")[2]
        if len(port) > _DIGITS or not 1 <= int(port) <= _LAST_PORT:
            raise UsageError(f"{address}: {port} is no port", hint=f"they go from 1 to {_LAST_PORT}")
    return address


def is_tcp(address: str) -> bool:
    """Whether it is ``HOST:PORT`` (or ``:PORT``); anything else is a path."""
    _, colon, port = address.rpartition(":")
    return bool(colon) and port.isascii() and port.isdigit() and "/" not in address


def host_and_port(address: str) -> tuple[str, int]:
    """Of one that :func:`is_tcp`; ``[::1]:1234`` is ``::1``."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]") or "localhost", int(port)


def demand_socket(address: str, option: str) -> None:
    """Return if ``address`` may be a socket; nobody is connected to, which would stop the guest at a gdbstub.

    :param option: QEMU's option that makes such a socket, for the hint
    :raises AttachError: if it is a path where there is none
    """
    if is_tcp(address):
        return
    try:
        mode = Path(address).stat().st_mode
    except PermissionError:
        raise AttachError(f"{address}: permission denied", hint="run as the user who started QEMU") from None
    except OSError:
        raise AttachError(
            f"there is no socket {address}", hint=f"start QEMU with -{option} unix:PATH,server=on,wait=off"
        ) from None
    if not stat.S_ISSOCK(mode):
        raise AttachError(f"{address} is not a socket", hint=f"it is made by QEMU's -{option} unix:PATH")


def connect(address: str, seconds: float) -> socket.socket:
    """A connection to ``address``, which is :func:`plain`.

    :raises OSError: if there is none
    :raises BlockingIOError: if a unix socket's queue is full: QEMU lets one client wait while it serves another
    """
    if is_tcp(address):
        try:
            return socket.create_connection(host_and_port(address), timeout=seconds)
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "no host has such a name") from None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection
