"""Who is served at a unix socket: the kernel tells which two sockets are connected, and ``/proc`` who holds the other.

Source: sock_diag(7); ``linux/unix_diag.h``, ``linux/netlink.h``, ``linux/sock_diag.h``.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kvmtools.attach.monitor.address import is_tcp

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST, NLM_F_DUMP
_ESTABLISHED = 1 << 1
_SHOW_VFS_AND_PEER = 2 | 4
_VFS, _PEER = 1, 2
_HEADER = struct.Struct("=IHHII")
_ASK = struct.Struct("=BBHIIIII")
_TOLD = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")


def served_at(address: str) -> str | None:
    """The process that a server at ``address`` has accepted: ``process 4711 (kvmtools shell -g pae)``.

    ``None`` if there is none, it is this one, it is another user's, or ``address`` is no path.
    """
    if is_tcp(address):
        return None
    with suppress(OSError):
        status = os.stat(address)
        place = (status.st_ino, os.major(status.st_dev) << 20 | os.minor(status.st_dev))
        for peer in _peers(place):
            if (found := _holder(peer)) is not None:
                return found
    return None


def _peers(place: tuple[int, int]) -> Iterator[int]:
    """Inodes of the sockets that are connected to one at ``place`` and accepted there."""
    for own, attributes in _established():
        vfs, peer = attributes.get(_VFS), attributes.get(_PEER)
        # One that waits for its turn has no inode yet.
        if own and peer and vfs and struct.unpack("=II", vfs) == place:
            yield int(struct.unpack("=I", peer)[0])


def _established() -> Iterator[tuple[int, dict[int, bytes]]]:
    """Inode and attributes of every connected unix socket."""
    ask = _ASK.pack(socket.AF_UNIX, 0, 0, _ESTABLISHED, 0, _SHOW_VFS_AND_PEER, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(ask), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        kernel.send(header + ask)
        while True:
            data = memoryview(kernel.recv(1 << 16))
            while data:
                size, kind, *_ = _HEADER.unpack_from(data)
                if kind != _SOCK_DIAG_BY_FAMILY:  # done, or an error
                    return
                inode = _TOLD.unpack_from(data, _HEADER.size)[4]
                yield inode, dict(_attributes(data[_HEADER.size + _TOLD.size : size]))
                data = data[(size + 3) & ~3 :]


def _attributes(data: memoryview) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            return
        yield kind, bytes(data[_ATTRIBUTE.size : size])
        data = data[(size + 3) & ~3 :]


def _holder(inode: int) -> str | None:
    """The process that has the socket, with its command line."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) != os.getpid() and any(
                os.readlink(link) == f"socket:[{inode}]" for link in (process / "fd").iterdir()
            ):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                return f"process {process.name} ({_brief(words)})"
    return None


def _brief(words: list[str]) -> str:
    """A command line without the interpreter's path, and the path of what it runs."""
    if words and Path(words[0]).name.startswith("python") and len(words) > 1:
        words = words[1:]
    return " ".join((Path(words[0]).name, *words[1:])).strip()
