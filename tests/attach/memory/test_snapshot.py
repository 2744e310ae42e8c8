from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvmtools.attach.memory.physical import Segment, SegmentedMemory
from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.errors import MemoryFault
from kvmtools.records import PAGE_SIZE

HIGH = 1 << 32
SEGMENTS = (Segment(0, 8 * PAGE_SIZE, 0), Segment(HIGH, HIGH + 4 * PAGE_SIZE, 8 * PAGE_SIZE))


class Guest(SegmentedMemory):
    """RAM that can change under the reader, and counts how often it is read."""

    name = "ram-file"

    def __init__(self) -> None:
        super().__init__(SEGMENTS)
        self.data = bytearray((i * 31 ^ i >> 8) & 0xFF for i in range(12 * PAGE_SIZE))
        self.reads = 0

    def close(self) -> None:
        pass

    def _copy(self, offset: int, buffer: memoryview) -> None:
        self.reads += 1
        buffer[:] = self.data[offset : offset + len(buffer)]

    def change(self, byte: int) -> None:
        self.data[:] = bytes([byte]) * len(self.data)


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_what_is_read_is_kept(guest: Guest) -> None:
    snapshot = Snapshot(guest)
    before = bytes(guest.data)
    assert snapshot.read(5000, 8) == before[5000:5008]
    guest.change(0xEE)
    assert snapshot.read(5000, 8) == before[5000:5008], "the page was captured by the first read"
    assert snapshot.read(4096, 4096) == before[4096:8192], "all of it"
    assert snapshot.read(0, 1) == b"\xee", "another page was not"


def test_one_memcpy_for_a_long_stretch_and_views_into_it(guest: Guest) -> None:
    snapshot = Snapshot(guest)
    snapshot.keep(PAGE_SIZE, 6 * PAGE_SIZE)
    assert guest.reads == 1
    view = snapshot.view(PAGE_SIZE + 1, 5 * PAGE_SIZE)
    assert view == guest.data[PAGE_SIZE + 1 : 6 * PAGE_SIZE + 1]
    snapshot.patch(PAGE_SIZE + 1, b"\x55")
    assert view[0] == 0x55, "a view of a kept stretch is no copy"
    assert view.readonly


def test_keeping_prepares_and_fills_the_same_buffer(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot(guest)
    snapshot.prepare(PAGE_SIZE + 7, 2 * PAGE_SIZE)
    assert [len(buffer) for buffer in snapshot._prepared.values()] == [3 * PAGE_SIZE]
    # Memory that is asked for now would be asked for while the guest is held.
    monkeypatch.setattr("kvmtools.attach.memory.snapshot._touched_buffer", None)
    guest.change(7)
    snapshot.keep(PAGE_SIZE + 7, 2 * PAGE_SIZE)
    assert snapshot.read(PAGE_SIZE, 3 * PAGE_SIZE) == b"\x07" * 3 * PAGE_SIZE
    assert not snapshot._prepared
    with pytest.raises(MemoryFault):
        snapshot.prepare(7 * PAGE_SIZE, 2 * PAGE_SIZE)


def test_the_earlier_capture_stands_when_a_stretch_is_kept_over_it(guest: Guest) -> None:
    snapshot = Snapshot(guest)
    early = snapshot.read(2 * PAGE_SIZE, PAGE_SIZE)
    guest.change(1)
    snapshot.keep(PAGE_SIZE, 3 * PAGE_SIZE)
    guest.change(2)
    snapshot.keep(0, 8 * PAGE_SIZE)
    pages = [snapshot.read(i * PAGE_SIZE, PAGE_SIZE) for i in range(8)]
    assert pages[2] == early
    assert [page[0] for i, page in enumerate(pages) if i != 2] == [2, 1, 1, 2, 2, 2, 2]


def test_sealed_it_answers_for_captured_bytes_only(guest: Guest) -> None:
    snapshot = Snapshot(guest)
    snapshot.read(0, 1)
    snapshot.keep(HIGH, PAGE_SIZE)
    snapshot.seal()
    reads = guest.reads
    assert snapshot.read(HIGH, 4) == guest.data[8 * PAGE_SIZE : 8 * PAGE_SIZE + 4]
    for ask in (
        lambda: snapshot.read(PAGE_SIZE - 1, 2),
        lambda: snapshot.view(HIGH + PAGE_SIZE, 1),
        lambda: snapshot.patch(PAGE_SIZE, b"x"),
    ):
        with pytest.raises(MemoryFault, match="was not captured"):
            ask()
    with pytest.raises(MemoryFault, match="no RAM"):
        snapshot.read(9 * PAGE_SIZE, 1)
    with pytest.raises(MemoryFault, match="sealed"):
        snapshot.keep(0, PAGE_SIZE)
    assert guest.reads == reads


def test_what_is_no_ram_is_a_fault_at_the_address_asked_for(guest: Guest) -> None:
    snapshot = Snapshot(guest)
    with pytest.raises(MemoryFault) as caught:
        snapshot.read(8 * PAGE_SIZE - 1, 5)
    assert caught.value.address == 8 * PAGE_SIZE
    with pytest.raises(MemoryFault):
        snapshot.keep(7 * PAGE_SIZE, 2 * PAGE_SIZE)


ADDRESS = st.one_of(st.integers(0, 8 * PAGE_SIZE - 1), st.integers(HIGH, HIGH + 4 * PAGE_SIZE - 1))
SIZE = st.integers(1, 3 * PAGE_SIZE)


class SnapshotMachine(RuleBasedStateMachine):
    """Beside the snapshot a dictionary: byte address to captured byte."""

    @initialize()
    def begin(self) -> None:
        self.guest = Guest()
        self.snapshot = Snapshot(self.guest)
        self.captured: dict[int, int] = {}

    def _fits(self, address: int, size: int) -> bool:
        return any(s.start <= address and address + size <= s.end for s in SEGMENTS)

    def _capture(self, address: int, size: int) -> None:
        first, end = address & -PAGE_SIZE, (address + size + PAGE_SIZE - 1) & -PAGE_SIZE
        data = self.guest.read(first, end - first)
        for byte in range(first, end):
            self.captured.setdefault(byte, data[byte - first])

    @rule(address=ADDRESS, size=SIZE)
    def read(self, address: int, size: int) -> None:
        if not self._fits(address, size):
            with pytest.raises(MemoryFault):
                self.snapshot.read(address, size)
            self._capture_until_the_fault(address, size)
            return
        self._capture(address, size)
        wanted = bytes(self.captured[byte] for byte in range(address, address + size))
        assert self.snapshot.read(address, size) == wanted
        assert self.snapshot.view(address, size) == wanted

    def _capture_until_the_fault(self, address: int, size: int) -> None:
        end = next(s.end for s in SEGMENTS if s.start <= address < s.end)
        self._capture(address, end - address)

    @rule(address=ADDRESS, size=SIZE, prepare=st.booleans())
    def keep(self, address: int, size: int, prepare: bool) -> None:
        if self._fits(address, size):
            if prepare:
                self.snapshot.prepare(address, size)
            self.snapshot.keep(address, size)
            self._capture(address, size)

    @rule(address=ADDRESS, data=st.binary(min_size=1, max_size=5000))
    def patch(self, address: int, data: bytes) -> None:
        if self._fits(address, len(data)):
            self._capture(address, len(data))
            self.snapshot.patch(address, data)
            self.captured.update(zip(range(address, address + len(data)), data, strict=True))

    @rule(byte=st.integers(0, 255))
    def guest_writes(self, byte: int) -> None:
        self.guest.change(byte)

    @invariant()
    def knows_what_it_has(self) -> None:
        assert sum(map(len, self.snapshot.captured)) == len(self.captured)


TestSnapshot = SnapshotMachine.TestCase
TestSnapshot.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
