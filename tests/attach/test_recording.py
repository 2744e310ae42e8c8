from __future__ import annotations

import json
from typing import Any

import pytest

from kvmtools.attach.recording import Recording, parse
from kvmtools.errors import AttachError
from kvmtools.records import Range, Registers

WHOLE = Recording(
    source="QEMU 7.2.22 at qmp.sock: 1 vCPU, 96 MiB",
    registers=(Registers(0, 0xC100_0000, 0x8005_0033, 0x119_2020, 0x6B0, None, 0xFFA0_0000),),
    ram=(Range(0, 0xA0000), Range(1 << 32, (1 << 32) + 4096)),
    slide=0x100_0000,
    facts={"schema": "kvmtools-facts/1", "build_id": "ab", "answers": {"sizeof pte_t": 8}},
    log="[    0.000000] Linux\n",
)


@pytest.mark.parametrize("log", [None, "", "é\0\n"])
def test_a_note_says_it_again(log: str | None) -> None:
    said = Recording(**{**vars(WHOLE), "log": log, "full": log is None})
    assert parse(said.note().data) == said


def test_the_note_is_json_that_anybody_reads() -> None:
    document = json.loads(WHOLE.note().data)
    assert document["schema"] == "kvmtools-recording/1"
    assert document["registers"] == [
        {
            "cpu": 0,
            "eip": "0xc1000000",
            "cr0": "0x80050033",
            "cr3": "0x1192020",
            "cr4": "0x6b0",
            "efer": None,
            "idt": "0xffa00000",
        }
    ]
    assert document["ram"] == [["0x0", "0xa0000"], ["0x100000000", "0x100001000"]]


def damaged(**parts: Any) -> bytes:
    return json.dumps({**json.loads(WHOLE.note().data), **parts}).encode()


def registers(**values: str) -> dict[str, Any]:
    (first,) = json.loads(WHOLE.note().data)["registers"]
    return {**first, **values}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        damaged(facts=None),
        damaged(ram=3),
        damaged(ram=[["0x0"]]),
        damaged(ram=[["zero", "one"]]),
        damaged(registers=[{"cpu": 0}]),
        damaged(registers=[{"cpu": 0, "more": "0x1"}]),
        damaged(slide=None),
        b"[" * 100_000,
        damaged(ram=[["0x1000", "0x1000"]]),
        damaged(ram=[["0x2000", "0x1000"]]),
        damaged(ram=[["-0x1000", "0x1000"]]),
        damaged(ram=[["0x0", "0x10000000001000"]]),
        damaged(ram=[["0x1000", "0x2000"], ["0x0", "0x1000"]]),
        damaged(ram=[["0x0", "0x2000"], ["0x1000", "0x3000"]]),
        damaged(registers=[registers(cr3="0x10000000000000000")]),
        damaged(registers=[registers(cr3="-0x1")]),
    ],
)
def test_a_damaged_note_is_refused(data: bytes) -> None:
    with pytest.raises(AttachError, match=r"^has a damaged KVMTOOLS note: "):
        parse(data)


def test_another_form_is_named() -> None:
    with pytest.raises(AttachError, match="of the form kvmtools-recording/9, not kvmtools-recording/1"):
        parse(damaged(schema="kvmtools-recording/9"))
