"""Lock words of SMP kernels and of kernels for one CPU, with debugging and without."""

from __future__ import annotations

import pytest

from kvmtools.observe.spinlock import taken
from kvmtools.observe.symbols.vmlinux import SCHEMA, Vmlinux

MAGIC = bytes.fromhex("ed1eaddeffffffff")  # SPINLOCK_MAGIC, owner_cpu -1


@pytest.mark.parametrize(
    ("smp", "lock", "expected"),
    [
        (True, bytes(4), False),
        (True, bytes([1, 0, 0, 0]), True),
        (True, bytes([0, 1, 0, 0]), True),
        (True, bytes(4) + MAGIC, False),
        (True, bytes([1, 0, 0, 0]) + MAGIC, True),
        (False, b"", None),
        (False, bytes([1, 0, 0, 0]) + MAGIC, False),
        (False, bytes(4) + MAGIC, True),
    ],
)
def test_taken(smp: bool, lock: bytes, expected: bool | None) -> None:
    answers = {
        "symbol __per_cpu_offset": 0xC100_0000 if smp else None,
        "sizeof typeof(__per_cpu_offset)": 8 if smp else None,
    }
    vmlinux = Vmlinux.from_json({"schema": SCHEMA, "build_id": "00", "answers": answers})
    assert taken(vmlinux, lock) is expected
