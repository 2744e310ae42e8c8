"""What a person may write for an address or a page, and what is refused."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from kvmtools.cli import scripts
from kvmtools.cli.words import batches, words
from kvmtools.errors import SymbolsError, UsageError
from kvmtools.show.addresses import page_frame, physical_address, virtual_address

SYMBOLS = {"_text": 0xC100_0000, "last_pkmap_nr.1": 0xC140_0000, "deadbee": 0xC130_0000}


def symbol(name: str) -> int:
    try:
        return SYMBOLS[name]
    except KeyError:
        raise SymbolsError(f"no symbol {name}") from None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0xc1000000", 0xC100_0000),
        ("0XC1000000", 0xC100_0000),
        ("0x0", 0),
        ("c1000000", 0xC100_0000),
        ("08048000", 0x0804_8000),
        ("_text", 0xC100_0000),
        ("_text+0x10", 0xC100_0010),
        ("_text+16", 0xC100_0010),
        ("_text-0x10", 0xC0FF_FFF0),
        ("last_pkmap_nr.1", 0xC140_0000),
        ("deadbee", 0xC130_0000),  # seven digits: not as the kernel prints an address
    ],
)
def test_virtual_addresses(text: str, address: int) -> None:
    assert virtual_address(text, symbol, 32) == address


@pytest.mark.parametrize(
    "text",
    ["", "4096", "0x", "0xg", "c100000000", "0x100000000", "-1", "_text+", "_text*2", "nothing", "٠٠٠٠٠٠٠١"],
)
def test_garbage_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        virtual_address(text, symbol, 32)
    assert f"'{text}'" in str(caught.value)


def test_an_offset_does_not_wrap() -> None:
    with pytest.raises(UsageError, match="32 bits"):
        virtual_address("_text+0xffffffff", symbol, 32)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_range_may_end_where_the_address_space_does(bits: int) -> None:
    end = 1 << bits
    assert virtual_address(hex(end), symbol, bits, is_end=True) == end
    assert virtual_address(f"_text+{end - symbol('_text')}", symbol, bits, is_end=True) == end
    assert virtual_address(hex(end - 1), symbol, bits) == end - 1
    for is_end, beyond in ((False, end), (True, end + 1)):
        with pytest.raises(UsageError, match=f"does not fit in {bits} bits"):
            virtual_address(hex(beyond), symbol, bits, is_end=is_end)


@pytest.mark.parametrize(("text", "address"), [("0x1473000", 0x147_3000), ("180000000", 0x1_8000_0000)])
def test_physical_addresses(text: str, address: int) -> None:
    assert physical_address(text) == address


@pytest.mark.parametrize("text", ["", "0x", "xyz", "0x10000000000000"])
def test_physical_garbage(text: str) -> None:
    with pytest.raises(UsageError):
        physical_address(text)


@pytest.mark.parametrize(
    ("text", "pfn"),
    [
        ("0", 0),
        ("4660", 0x1234),
        ("0x1234", 0x1234),
        ("12345678", 12345678),
        ("phys:0x180000fff", 0x18_0000),
        ("0xf5a20020", 1),
        ("f5a20020", 1),
    ],
)
def test_pages(text: str, pfn: int) -> None:
    assert page_frame(text, 0xC000_0000, lambda page: (page - 0xF5A2_0000) // 32, 32) == pfn


@pytest.mark.parametrize("text", ["", "-1", "f5a2", "page", "0x", "phys:", "0x1f5a20020"])
def test_page_garbage(text: str) -> None:
    with pytest.raises(UsageError):
        page_frame(text, 0xC000_0000, lambda page: page, 32)


def test_words_come_from_the_arguments_or_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b c # x\n\n# y\nd\n")))
    assert list(words(["a", "-", "e"])) == ["a", "b", "c", "d", "e"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"f")))
    assert list(words([])) == ["f"]


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(UsageError, match="no address"):
        list(words([]))


def test_a_line_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream may be endless, a line of it not."""
    monkeypatch.setattr(scripts, "MOST", 1 << 17)
    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
        with pytest.raises(UsageError, match=r"^a line of stdin is larger than "):
            list(batches())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n" * (1 << 17))))
    assert sum(map(len, batches())) == 1 << 17
