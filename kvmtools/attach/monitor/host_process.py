"""Which process of this host is at the other end of a connection."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kvmtools.errors import AttachError

_PROC = Path("/proc")


def pid_running(connection: socket.socket | None, thread: int | None) -> int:
    """The pid of the QEMU that is spoken to: it has ``thread``, one of its vCPUs'.

    Whoever made the socket may have passed it on: libvirtd does.  Then the thread leads to QEMU, if both are in our pid
    namespace.

    :param connection: to QEMU.  Without one, the thread alone leads to it: what is read there has to prove itself
    :param thread: as QEMU knows it, in its own namespace; without it, the other end is believed
    :raises AttachError: as :func:`pid_behind`; or if the other end is somebody else, and QEMU is not to be seen
    """
    if connection is None:
        return _owner(thread) or _invisible()
    peer = pid_behind(connection)
    if thread is None or _has_thread(peer, thread):
        return peer
    owner = _owner(thread)
    if owner and owner != peer:
        return owner
    name = _fields(_PROC / str(peer) / "status").get("Name", "a process")
    raise AttachError(
        f"the socket was made by {name} (pid {peer}), not by QEMU, whose process is not to be seen from here",
        hint="run on its host, in its pid namespace",
    )


def is_qemu(pid: int) -> bool:
    """Whether the process, or the program that it runs, is called so."""
    process = _PROC / str(pid)
    with suppress(OSError):
        if (process / "comm").read_text(errors="replace").startswith("qemu"):
            return True
        return os.path.basename(os.readlink(process / "exe")).startswith("qemu")
    return False


def same_namespace(pid: int) -> bool:
    """Whether the process is in our pid namespace: what ``/proc`` shows to us and to it is the same."""
    with suppress(OSError):
        return os.readlink(_PROC / str(pid) / "ns/pid") == os.readlink(_PROC / "self/ns/pid")
    return False


def switches(pid: int) -> dict[int, int]:
    """How often each thread of a process has come and gone; empty if it is not to be seen."""
    statuses = {path: _fields(path / "status") for path in (_PROC / str(pid) / "task").glob("*")}
    return {
        int(path.name): sum(
            int(status.get(f"{kind}_ctxt_switches", 0)) for kind in ("voluntary", "nonvoluntary")
        )
        for path, status in statuses.items()
    }


def _owner(thread: int | None) -> int:
    """The QEMU that the thread belongs to; 0 if it is not to be seen.

    Another host's thread has a number that any process may have here.
    """
    pid = 0 if thread is None else int(_fields(_PROC / str(thread) / "status").get("Tgid", 0))
    return pid if pid and is_qemu(pid) else 0


def _invisible() -> int:
    raise AttachError("QEMU is not a process that can be seen from here", hint="run on its host, as its user")


def _has_thread(pid: int, thread: int) -> bool:
    """Whether the process has a thread of that number in the innermost pid namespace that it is in."""
    statuses = (_fields(path / "status") for path in (_PROC / str(pid) / "task").glob("*"))
    return any(status.get("NSpid", "").split()[-1:] == [str(thread)] for status in statuses)


def _fields(path: Path) -> dict[str, str]:
    """A file such as ``/proc/PID/status``; empty if it is gone, or not ours to look at."""
    with suppress(OSError):
        pairs = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
        return {key: value.strip() for key, _, value in pairs}
    return {}


def pid_behind(connection: socket.socket) -> int:
    """The pid at the other end of a connected unix or TCP socket.

    A unix socket knows who called ``listen()`` on it; for TCP, the process that holds the other end is
    looked up.

    :raises AttachError: if it is not on this host, in another pid namespace, or another user's
    """
    if connection.family == socket.AF_UNIX:
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    else:
        inode = _inode(connection.getpeername(), connection.getsockname())
        pid = holders({inode}).get(inode, 0)
    return int(pid) if pid > 0 else _invisible()


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> int:
    """The inode of the TCP socket with these two ends; 0 if this host has none."""
    wanted = {(a, b) for a in spellings(*local[:2]) for b in spellings(*remote[:2])}
    for table in ("tcp", "tcp6"):
        for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if (fields[1], fields[2]) in wanted:
                return int(fields[9])
    return 0


def spellings(host: str, port: int) -> Iterator[str]:
    """An address as /proc/net/tcp and tcp6 write it: 32-bit words in the host's byte order."""
    if ":" in host:
        packed = [socket.inet_pton(socket.AF_INET6, host)]
    else:
        short = socket.inet_aton(host)
        packed = [short, b"\0" * 10 + b"\xff\xff" + short]
    for address in packed:
        words = struct.unpack(f"={len(address) // 4}I", address)
        yield "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def holders(inodes: set[int]) -> dict[int, int]:
    """The sockets of these inodes that a process that we may look at has open, each with its pid."""
    found: dict[int, int] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    for link in _PROC.glob("[0-9]*/fd/*") if wanted else ():
        with suppress(OSError):  # closed meanwhile, or not ours to look at
            if (inode := wanted.get(os.readlink(link))) is not None:
                found.setdefault(inode, int(link.parts[2]))
                if len(found) == len(wanted):
                    break
    return found
