"""Scripts that a person wrote, and those that cannot be read."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kvmtools.cli import scripts
from kvmtools.cli.scripts import script_text
from kvmtools.errors import UsageError


def stdin_of(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


@pytest.mark.parametrize("path", [None, "-"])
def test_stdin(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    stdin_of(monkeypatch, "é\n".encode())
    assert script_text(path) == "é\n"
    stdin_of(monkeypatch, b"\xff")
    with pytest.raises(UsageError, match=r"^stdin is not text \(name a script\)$"):
        script_text(path)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match=r"^stdin is closed \(name a script\)$"):
        script_text(path)


def test_a_stdin_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``0>file``: the descriptor is open, for writing only."""

    def read(_size: int) -> bytes:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=read)))
    with pytest.raises(UsageError, match=r"^cannot read stdin: Bad file descriptor$"):
        script_text(None)


def test_a_file(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes("é\r\n".encode())
    assert script_text(str(script)) == "é\n"
    script.write_bytes(b"\x7fELF\xff\xfe")
    with pytest.raises(UsageError, match=f"^the script '{script}' is not text "):
        script_text(str(script))
    with pytest.raises(UsageError, match=f"^cannot read the script '{tmp_path}': Is a directory$"):
        script_text(str(tmp_path))


@pytest.mark.parametrize("path", ["", "/no/such/script"])
def test_a_file_that_is_not_there(path: str) -> None:
    with pytest.raises(UsageError, match=f"^cannot read the script '{path}': No such file or directory$"):
        script_text(path)


def test_what_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no further than can be right."""
    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
        with pytest.raises(UsageError, match=r"^stdin is larger than 16 MiB$"):
            script_text(None)
    with pytest.raises(UsageError, match=r"^the script '/dev/zero' is larger than 16 MiB$"):
        script_text("/dev/zero")


def test_as_much_as_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MOST", 3)
    script = tmp_path / "script"
    script.write_bytes("aé".encode())
    assert script_text(str(script)) == "aé"
    script.write_bytes("aéb".encode())
    with pytest.raises(UsageError, match="is larger than 0 MiB"):
        script_text(str(script))
