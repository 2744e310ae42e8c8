"""Registers from a gdbstub: which it has, it tells in an XML text, and their values one by one.

Source: gdb's manual, appendices "GDB Remote Serial Protocol" and "Target Descriptions"; QEMU ``gdb-xml/i386-*.xml``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from kvmtools.errors import AttachError
from kvmtools.records import Registers

Exchange = Callable[[bytes], bytes]
"""Sends a packet; what the stub answers."""

_COMMENT = re.compile("<!--.*?-->", re.DOTALL)
_REGISTER = re.compile(r"<reg\s[^>]*>")
_INCLUDED = re.compile(r'<xi:include\s[^>]*href="([^"]+)"')
_NAME, _NUMBER = re.compile(r'\bname="([^"]+)"'), re.compile(r'\bregnum="(\d+)"')
_THREAD = re.compile(rb"(?:p[0-9a-f]+\.)?([0-9a-f]+)$")
_STEP = 0x400
_WANTED = {"eip": ("eip", "rip"), "cr0": ("cr0",), "cr3": ("cr3",), "cr4": ("cr4",), "efer": ("efer",)}


def read(exchange: Exchange) -> tuple[Registers, ...]:
    """Every vCPU's registers, in vCPU order.

    :raises AttachError: if this stub does not show control registers (before QEMU 4.1)
    """
    numbers = _numbers(exchange)
    found = []
    for thread in _threads(exchange):
        number = _THREAD.match(thread)
        if number is None or exchange(b"Hg" + thread) != b"OK":
            raise AttachError(f"the gdbstub does not show thread {thread!r}")
        values = {name: _value(exchange(b"p%x" % at), name) for name, at in numbers.items()}
        # QEMU counts from 1: 0 means any vCPU.
        found.append(Registers(cpu=int(number[1], 16) - 1, **values))
    return tuple(sorted(found, key=lambda one: one.cpu))


def _threads(exchange: Exchange) -> Iterator[bytes]:
    answer = exchange(b"qfThreadInfo")
    while answer.startswith(b"m"):
        yield from answer[1:].split(b",")
        answer = exchange(b"qsThreadInfo")


def _numbers(exchange: Exchange) -> dict[str, int]:
    """The numbers of the registers that we want; they go on from one file of the description to the next."""
    text = _file(exchange, "target.xml")
    known: dict[str, int] = {}
    following = 0
    for part in (text, *(_file(exchange, name) for name in _INCLUDED.findall(text))):
        for tag in _REGISTER.findall(part):
            name, number = _NAME.search(tag), _NUMBER.search(tag)
            following = int(number[1]) if number else following
            if name:
                known[name[1]] = following
            following += 1
    places = {
        ours: next((known[name] for name in theirs if name in known), None)
        for ours, theirs in _WANTED.items()
    }
    missing = [name for name, place in places.items() if place is None]
    if missing:
        raise AttachError(f"the gdbstub does not show {', '.join(missing)}", hint="use QEMU's monitor")
    return {name: place for name, place in places.items() if place is not None}


def _file(exchange: Exchange, name: str) -> str:
    text = b""
    while True:
        answer = exchange(b"qXfer:features:read:%b:%x,%x" % (name.encode(), len(text), _STEP))
        if answer[:1] not in (b"m", b"l"):
            raise AttachError(f"the gdbstub does not describe its registers: {name} is {answer[:20]!r}")
        text += answer[1:]
        if answer[:1] == b"l" or len(answer) == 1:
            return _COMMENT.sub("", text.decode(errors="replace"))


def _value(answer: bytes, name: str) -> int:
    try:
        return int.from_bytes(bytes.fromhex(answer.decode()), "little")
    except ValueError:
        raise AttachError(f"the gdbstub does not show {name}: it answers {answer[:20]!r}") from None
