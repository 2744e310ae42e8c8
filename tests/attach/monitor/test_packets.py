"""Packets of gdb's remote protocol, in whatever pieces they arrive."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from kvmtools.attach.monitor.packets import PacketStream, packet, unpacked


@pytest.fixture
def ends() -> Iterator[tuple[PacketStream, socket.socket]]:
    here, there = socket.socketpair()
    stream = PacketStream(here)
    with there:
        yield stream, there
    stream.close()


def soon() -> float:
    return time.monotonic() + 1


def test_a_packet_carries_its_checksum() -> None:
    # gdb's manual gives these.
    assert packet(b"qSupported") == b"$qSupported#37"
    assert packet(b"OK") == b"$OK#9a"
    assert packet(b"") == b"$#00"


def test_run_lengths_and_escapes() -> None:
    assert unpacked(b"0* ") == b"0000"
    assert unpacked(b'ab*"c') == b"abbbbbbc"
    assert unpacked(b"}\x03}]") == b"#}"
    assert unpacked(b"plain") == b"plain"


def test_packets_come_one_by_one_without_acknowledgements(ends: tuple[PacketStream, socket.socket]) -> None:
    stream, there = ends
    there.sendall(b"+" + packet(b"T02thread:01;") + b"+" + packet(b"O41") + packet(b"OK"))
    assert [stream.next(soon()) for _ in range(3)] == [b"T02thread:01;", b"O41", b"OK"]


def test_a_packet_in_pieces(ends: tuple[PacketStream, socket.socket]) -> None:
    stream, there = ends
    for byte in b"+" + packet(b"m" * 10):
        there.sendall(bytes([byte]))
        if byte == ord("#"):
            with pytest.raises(TimeoutError):
                stream.next(time.monotonic())
    assert stream.next(soon()) == b"m" * 10


def test_what_came_unasked_is_dropped(ends: tuple[PacketStream, socket.socket]) -> None:
    stream, there = ends
    assert not stream.drain()
    there.sendall(packet(b"T05thread:01;"))
    assert stream.first_byte(1) == b"$"
    assert stream.drain()
    there.sendall(packet(b"OK"))
    assert stream.next(soon()) == b"OK"


def test_an_end_that_is_gone(ends: tuple[PacketStream, socket.socket]) -> None:
    stream, there = ends
    there.close()
    assert stream.first_byte(1) == b""
    with pytest.raises(ConnectionError):
        stream.next(soon())
    with pytest.raises(ConnectionError):
        stream.drain()
