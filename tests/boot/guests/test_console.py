"""What a guest printed: read once, kept within bounds, searched for a panic."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmtools.boot.guests import console
from kvmtools.boot.guests.console import LARGEST, Console

PANIC = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"


@pytest.fixture
def log() -> Iterator[Path]:
    """A console where run directories are: in memory."""
    path = Path(f"/dev/shm/kvmtools-test-console-{os.getpid()}")
    path.touch()
    yield path
    path.unlink()


def add(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_only_what_is_new_is_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Console(log)
    add(log, "x" * 79 + "\n")
    assert watch.panic() == ""
    sizes: list[int] = []
    following = Console._next

    def counted(self: Console) -> bytes:
        piece = following(self)
        sizes.append(len(piece))
        return piece

    monkeypatch.setattr(Console, "_next", counted)
    for _ in range(50):
        assert watch.panic() == ""
    assert sum(sizes) == 0
    add(log, "a new line\n")
    assert watch.panic() == ""
    assert sum(sizes) == len("a new line\n")


@pytest.mark.parametrize("cut", range(0, len(PANIC) + 2, 7))
def test_a_panic_is_found_wherever_the_reading_stops(log: Path, cut: int) -> None:
    whole = f"[    1.0] {PANIC}\r\n"
    watch = Console(log)
    add(log, "earlier\r\n" + whole[: 10 + cut])
    first = watch.panic()
    add(log, whole[10 + cut :])
    assert [first, watch.panic()] in (["", PANIC], [PANIC, ""])


def test_a_panic_far_into_a_large_file_is_found(log: Path) -> None:
    add(log, ("x" * 79 + "\n") * 5000 + PANIC + "\n" + "after\n" * 10)
    assert Console(log).panic() == PANIC
    assert console.panic(log) == PANIC


def test_no_panic_is_none(log: Path, tmp_path: Path) -> None:
    add(log, "Kernel panic - not syncing\n")
    assert console.panic(log) == Console(log).panic() == ""
    assert console.panic(tmp_path / "absent") == Console(tmp_path / "absent").panic() == ""


def test_a_flood_is_kept_within_bounds_while_it_goes_on(log: Path) -> None:
    block = b"".join(b"[%8d] flood\n" % number for number in range(50_000))
    with log.open("ab", buffering=0) as qemu:
        qemu.write(b"Linux version 6.1\n")
        for _ in range(20):
            qemu.write(block)
            console.trim(log)
            assert log.stat().st_blocks * 512 <= LARGEST
        qemu.write(f"{PANIC}\n".encode())
    text = log.read_bytes()
    assert len(text) > 20 * len(block)
    assert text.startswith(b"Linux version 6.1\n[       0] flood\n")
    assert text[-len(block) // 2 :].count(b"\0") == 0
    assert console.last_line(log) == PANIC
    assert console.panic(log) == PANIC


def test_a_small_file_is_not_touched(log: Path) -> None:
    add(log, "line\n" * 1000)
    before = log.read_bytes()
    console.trim(log)
    assert log.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "last"), [("", ""), ("one\n\n \r\n", "one"), ("a\nb\0\0\n", "b"), ("\0\0", "")]
)
def test_the_last_line(log: Path, text: str, last: str) -> None:
    add(log, text)
    assert console.last_line(log) == last


def test_the_end_of_a_large_file_is_found_at_once(log: Path) -> None:
    with log.open("wb") as file:
        file.truncate(64 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast\n")
    started = time.monotonic()
    assert console.last_line(log) == "last"
    assert time.monotonic() - started < 5


def test_what_is_kept_of_a_long_file_is_its_two_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    messages = tmp_path / "console.log"
    with messages.open("wb") as file:
        file.write(b"first")
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(b"last")
    kept = console.keep(messages, "long")
    assert kept is not None
    assert kept.stat().st_size < 16 << 20
    data = kept.read_bytes()
    assert data.startswith(b"first")
    assert data.endswith(b"last")


@pytest.mark.parametrize("place", ["cache/kvmtools", "cache/kvmtools/logs"])
def test_messages_that_cannot_be_kept_are_lost_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("a file where a folder should be")
    messages = tmp_path / "console.log"
    messages.write_bytes(b"something")
    assert console.keep(messages, "short") is None
