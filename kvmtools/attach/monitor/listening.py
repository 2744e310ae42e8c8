"""Who listens at an address of this host, found out without a connection, which would be heard.

A gdbstub stops its guest when a client comes, and lets a second one wait until the first has left: better not to come
at all.  Source: ``/proc/net/unix``, ``/proc/net/tcp`` (Linux net/unix/af_unix.c, net/ipv4/tcp_ipv4.c).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvmtools.attach.monitor import address as addresses
from kvmtools.attach.monitor.host_process import holders, spellings

_PROC = Path("/proc")
_UNIX_LISTENS = 0x10000  # __SO_ACCEPTCON
_UNIX_CONNECTED = "03"  # SS_CONNECTED; who waits in the queue is only connecting
_TCP_LISTENS, _TCP_CONNECTED = "0A", "01"
_ANY = {"0" * 8, "0" * 32}


@dataclass(frozen=True, slots=True)
class Listener:
    """The process that listens, if it is to be seen, and whether it serves a client already."""

    pid: int | None
    taken: bool = False


@dataclass(frozen=True, slots=True)
class _End:
    """A socket of this host: one that listens, or one that was accepted there."""

    inode: int
    name: str
    listens: bool


def listener_at(address: str) -> Listener:
    """Who listens at ``address``, which is :func:`kvmtools.attach.monitor.address.plain`."""
    ends = list(_tcp_ends(address) if addresses.is_tcp(address) else _unix_ends(address))
    pids = holders({end.inode for end in ends})
    for end in ends:
        pid = pids.get(end.inode)
        if (
            end.listens
            and pid is not None
            and (addresses.is_tcp(address) or _is_file(end.name, pid, address))
        ):
            others = (each for each in ends if not each.listens and each.name == end.name)
            return Listener(pid, any(pids.get(each.inode) == pid for each in others))
    return Listener(None)


def _unix_ends(path: str) -> Iterator[_End]:
    """The sockets whose name may mean ``path``: each is called as it was bound, maybe in its own folder."""
    for line in (_PROC / "net/unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and os.path.basename(fields[7]) == os.path.basename(os.path.realpath(path)):
            listens = bool(int(fields[3], 16) & _UNIX_LISTENS)
            if listens or fields[5] == _UNIX_CONNECTED:
                yield _End(int(fields[6]), fields[7], listens)


def _is_file(name: str, pid: int, path: str) -> bool:
    with suppress(OSError):
        return os.path.samefile(_PROC / str(pid) / "cwd" / name, path)
    return False


def _tcp_ends(address: str) -> Iterator[_End]:
    host, port = addresses.host_and_port(address)
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        wanted = {text for *_, place in found for text in spellings(str(place[0]), port)}
        for table in ("tcp", "tcp6"):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                near, _, number = local.partition(":")
                listens = state == _TCP_LISTENS and near in _ANY and int(number, 16) == port
                if (listens or local in wanted) and state in (_TCP_LISTENS, _TCP_CONNECTED):
                    yield _End(int(rest[5]), number, state == _TCP_LISTENS)
