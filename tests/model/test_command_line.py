from __future__ import annotations

import pytest

from kvmtools.model.command_line import memparse, options, size, values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64M", (64 << 20, "")),
        ("0x10k", (16 << 10, "")),
        ("0X1f,", (31, ",")),
        ("010", (8, "")),
        ("09", (0, "9")),
        ("0", (0, "")),
        ("1E", (1 << 60, "")),
        ("2p", (2 << 50, "")),
        ("3T@", (3 << 40, "@")),
        ("4g$0x1000", (4 << 30, "$0x1000")),
        ("nopentium", (0, "nopentium")),
        ("", (0, "")),
        ("7MB", (7 << 20, "B")),
    ],
)
def test_memparse(text: str, expected: tuple[int, str]) -> None:
    assert memparse(text) == expected


def test_options_are_split_as_the_kernel_splits_them() -> None:
    line = 'console=ttyS0 dyndbg="file a.c +p" quiet log-buf-len=1M  mem=1G -- mem=2G'
    assert options(line) == [
        ("console", "ttyS0"),
        ("dyndbg", "file a.c +p"),
        ("quiet", None),
        ("log_buf_len", "1M"),
        ("mem", "1G"),
    ]


def test_quotes_may_hold_a_whole_option() -> None:
    """next_arg() takes a quote before the name for one around all of it (lib/cmdline.c)."""
    assert options('"dyndbg=file a.c +p" "quiet"') == [
        ("dyndbg", "file a.c +p"),
        ("quiet", None),
    ]


def test_a_later_size_replaces_an_earlier_one() -> None:
    assert size("vmalloc=64M vmalloc=256M", "vmalloc") == 256 << 20
    assert size("vmalloc", "vmalloc") is None
    assert values("memmap=a memmap=b", "memmap") == ["a", "b"]
