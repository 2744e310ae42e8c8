"""The end of printk's log: what a kernel said as it panicked, and how much of a damaged log is read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.printk import panic_reason
from kvmtools.observe.progress import panic
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Range

BASE = 0xC000_0000
RAM = 64 << 20
PAGE_TABLE = 0x3000  # which maps nothing: only what lies in the linear map can be read
RING, DESCRIPTORS, INFOS, TEXT = 0x2000, 0x10_0000, 0x20_0000, 0x100_0000
PANIC_CPU, PRB, LOG_BUF, LOG_BUF_LEN = 0x1000, 0x1004, 0x1008, 0x100C
RING_MEMBERS = (
    "desc_ring.count_bits",
    "desc_ring.descs",
    "desc_ring.infos",
    "desc_ring.head_id",
    "text_data_ring.size_bits",
    "text_data_ring.data",
    "text_data_ring.head_lpos",
)
DESCRIPTOR, INFO = 12, 64
REASON = b"Kernel panic - not syncing: VFS: Unable to mount root fs"
SAID = "VFS: Unable to mount root fs"


def facts() -> dict[str, Any]:
    """A kernel for one CPU with a ring buffer of these members."""
    answers: dict[str, Any] = {"sizeof pte_t": 8, "sizeof struct printk_ringbuffer": 4 * len(RING_MEMBERS)}
    answers["symbol swapper_pg_dir"] = BASE + PAGE_TABLE
    variables = {"panic_cpu": PANIC_CPU, "prb": PRB, "log_buf": LOG_BUF, "log_buf_len": LOG_BUF_LEN}
    for name, address in variables.items():
        answers[f"symbol {name}"], answers[f"sizeof typeof({name})"] = BASE + address, 4
    for index, name in enumerate(RING_MEMBERS):
        answers[f"offset struct printk_ringbuffer {name}"] = 4 * index
        answers[f"sizeof struct printk_ringbuffer {name}"] = 4
    answers["sizeof struct prb_desc"] = DESCRIPTOR
    answers["offset struct prb_desc text_blk_lpos.begin"] = 4
    answers["sizeof struct printk_info"] = INFO
    answers["offset struct printk_info text_len"], answers["sizeof struct printk_info text_len"] = 16, 2
    return answers


class CountingMemory:
    """A guest's RAM, which counts what is read of it."""

    name = "test"

    def __init__(self) -> None:
        self.ranges = (Range(0, RAM),)
        self.data = bytearray(RAM)
        self.bytes_read = 0

    def read(self, address: int, size: int) -> bytes:
        if address + size > RAM:
            raise MemoryFault(address, "no RAM")
        self.bytes_read += size
        return bytes(self.data[address : address + size])

    def view(self, address: int, size: int) -> memoryview:
        return memoryview(self.read(address, size))

    def readinto(self, address: int, buffer: memoryview) -> None:
        buffer[:] = self.read(address, len(buffer))

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Log:
    """A guest that panicked, its log being built record by record."""

    size_bits: int = 12
    count_bits: int = 7
    memory: CountingMemory = field(default_factory=CountingMemory)
    head: int = 0
    head_id: int = 0

    def put(self, at: int, data: bytes) -> None:
        self.memory.data[at : at + len(data)] = data

    def word(self, at: int, value: int) -> None:
        self.put(at, struct.pack("<I", value % (1 << 32)))

    def member(self, name: str, value: int) -> None:
        self.word(RING + 4 * RING_MEMBERS.index(name), value)

    def say(self, text: bytes) -> None:
        """One record, as prb_reserve() places it: a block that does not fit begins anew at 0."""
        size = 1 << self.size_bits
        length = -(-(4 + len(text)) // 4) * 4
        if self.head % size + length > size:
            self.word(TEXT + self.head % size, self.head_id)
            self.head += size - self.head % size
        self.head_id += 1
        row = self.head_id % (1 << self.count_bits)
        self.put(TEXT + self.head % size, struct.pack("<I", self.head_id) + text)
        self.put(DESCRIPTORS + row * DESCRIPTOR, struct.pack("<III", 0, self.head % (1 << 32), 0))
        self.put(INFOS + row * INFO + 16, struct.pack("<H", len(text)))
        self.head += length

    @property
    def kernel(self) -> Kernel:
        self.word(PRB, BASE + RING)
        values = (self.count_bits, BASE + DESCRIPTORS, BASE + INFOS, self.head_id)
        for name, value in zip(RING_MEMBERS, (*values, self.size_bits, BASE + TEXT, self.head), strict=True):
            self.member(name, value)
        return self.as_it_is()

    def as_it_is(self) -> Kernel:
        """The kernel, after a member was overwritten."""
        vmlinux = Vmlinux("1" * 40, facts())
        return Kernel(vmlinux, 0, self.memory, BASE, BASE + RAM)


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_reason_ends_where_its_record_does(log: Log) -> None:
    log.say(b"Booting")
    log.say(REASON)
    log.say(b"CPU: 0 PID: 1 Comm: swapper")
    log.say(b"---[ end " + REASON + b" ]---")
    assert panic_reason(log.kernel) == SAID


@pytest.mark.parametrize("before", range(0, 8192, 797))
@pytest.mark.parametrize("start", [0, -4096, (1 << 32) - 4096])
def test_wherever_in_the_ring_it_stands(log: Log, start: int, before: int) -> None:
    """After a wrap, too, of the ring or of its positions: the latest record is not the last by its address, and older
    descriptors led to longer ones at its place.
    """
    log.head, before = start, start + before
    while log.head < before:
        log.say(b"x" * 60)
    log.say(REASON)
    for _ in range(20):
        log.say(b"a line of the state of CPU 0")
    assert panic_reason(log.kernel) == SAID


def test_the_latest_of_two(log: Log) -> None:
    log.head = 2048
    log.say(b"Kernel panic - not syncing: the first")
    while log.head < 4096:
        log.say(b"x" * 60)
    log.say(b"Kernel panic - not syncing: the second")
    assert panic_reason(log.kernel) == "the second"


def test_a_kernel_that_did_not_panic_is_not_read(log: Log) -> None:
    log.word(PANIC_CPU, -1)
    assert panic(log.kernel) == ""
    assert log.memory.bytes_read == 4
    log.word(PANIC_CPU, 0)
    log.say(REASON)
    assert panic(log.kernel) == SAID


def test_of_a_large_log_the_end_is_read() -> None:
    log = Log(size_bits=25, count_bits=18)
    log.head = (1 << 25) - 100
    log.say(REASON)
    log.say(b"x" * 100)
    assert panic_reason(log.kernel) == SAID
    assert log.memory.bytes_read < 2 << 20


@pytest.mark.parametrize("bits", [*range(12, 36), 63, 64, 255, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("member", ["text_data_ring.size_bits", "desc_ring.count_bits"])
def test_no_size_makes_us_read_more_than_the_latest(log: Log, member: str, bits: int) -> None:
    log.say(REASON)
    assert panic_reason(log.kernel) == SAID
    log.memory.bytes_read = 0
    log.member(member, bits)
    said = panic_reason(log.as_it_is())
    assert log.memory.bytes_read < 3 << 20
    if member == "desc_ring.count_bits":
        assert said.startswith(SAID), "the text was there to be read"
    elif bits > 31:
        assert said.startswith("its log does not say why: virtual address 0xc0002")
        assert f"{member} is {bits}, and no log has 2**{bits} bytes" in said


@pytest.mark.parametrize("member", RING_MEMBERS)
@pytest.mark.parametrize("value", [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, BASE + RAM - 1])
def test_whatever_a_member_is_there_is_an_answer(log: Log, member: str, value: int) -> None:
    log.say(REASON)
    kernel = log.kernel
    log.member(member, value)
    assert panic_reason(kernel).startswith(("VFS", "its log does not say why"))
    assert log.memory.bytes_read < 3 << 20


def test_descriptors_that_all_lead_to_one_place_are_not_all_followed(log: Log) -> None:
    log.count_bits = 15
    log.say(REASON)
    for row in range(1 << 15):
        log.word(DESCRIPTORS + row * DESCRIPTOR + 4, 0)
    panic_reason(log.kernel)
    assert log.memory.bytes_read < (DESCRIPTOR << 15) + (8 << 10)


def without_ring(log: Log) -> Callable[[], str]:
    def reason() -> str:
        answers = {**facts(), "symbol prb": None, "sizeof typeof(prb)": None}
        return panic_reason(Kernel(Vmlinux("1" * 40, answers), 0, log.memory, BASE, BASE + RAM))

    return reason


def test_an_older_log_is_one_buffer(log: Log) -> None:
    reason = without_ring(log)
    log.word(LOG_BUF, BASE + TEXT)
    log.word(LOG_BUF_LEN, 1 << 14)
    assert reason() == "its log does not say why"
    log.put(TEXT + 100, b"\x10\0" + REASON + b"\0")
    assert reason() == SAID


def test_a_buffer_of_gigabytes_is_not_read(log: Log) -> None:
    reason = without_ring(log)
    log.word(LOG_BUF, BASE)
    log.word(LOG_BUF_LEN, RAM)
    said = reason()
    assert "a log of 67,108,864 bytes is more than is read while the guest is held" in said
    assert log.memory.bytes_read < 100


def test_a_kernel_without_any_log_says_so(log: Log) -> None:
    absent = {name: None for name in facts() if "prb" in name or "log_buf" in name}
    kernel = Kernel(Vmlinux("1" * 40, {**facts(), **absent}), 0, log.memory, BASE, BASE + RAM)
    assert panic_reason(kernel) == "its log does not say why"
