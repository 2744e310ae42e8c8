"""``| head``: nobody reads on.  The command goes on, for its exit code is an answer too, unless it had only to tell."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opened_kernel import always_opens, session_of
from recorded_guest import load
from whole_memory import WholeMemory

from kvmtools.cli import main

CHUNKS = 100
BUG = "kmap 1\nkunmap 1\nkunmap 1\n"


def unread_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def exit_code(monkeypatch: pytest.MonkeyPatch, *words: str, stdout: Path | None = None) -> object:
    """The command's, if its stdout is a pipe whose reader has left, or else a file."""
    with open(unread_pipe() if stdout is None else stdout, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "argv", ["kvmtools", *words])
        with pytest.raises(SystemExit) as ending:
            main()
    return ending.value.code


@pytest.mark.parametrize("form", ["text", "json", "junit"])
def test_check_still_says_that_the_kernel_is_broken(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    guest = load("nopae")
    session = session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot)))
    always_opens(monkeypatch, session)
    words = ("check", "--only", "pkmap", "--format", form)
    assert exit_code(monkeypatch, *words) == 0
    guest.write(guest.healthy.address("pkmap_count"), 1000)
    assert exit_code(monkeypatch, *words) == 1


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("vtop 0xc0200000", 0),
        ("vtop 0xc0200000 0xd0000000", 1),
        ("vtop --format json 0xd0000000", 1),
        ("memmap 0x100 0xffffff", 2),
        ("walk", 0),
    ],
)
def test_what_looks_at_a_guest_exits_as_ever(monkeypatch: pytest.MonkeyPatch, words: str, code: int) -> None:
    assert exit_code(monkeypatch, *words.split()) == code


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_bug_on_of_the_model(form: str, unbuffered: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(BUG)
    with open(unread_pipe(), "w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "kvmtools", "model", "pkmap", str(script), "--format", form],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["rules", "--help", "check --help", "--version", "model eras"])
def test_what_only_tells_ends(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    assert exit_code(monkeypatch, *words.split()) == 0


class Yes(io.RawIOBase):
    """``yes 0xc0200000``, and a test that fails if it is read on and on."""

    chunks = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.chunks += 1
        assert self.chunks <= CHUNKS, "nobody reads the answers"
        said = b"0xc0200000\n"
        buffer[: len(said)] = said
        return len(said)


@pytest.mark.usefixtures("tiny")
def test_an_endless_list_of_addresses_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Yes())))
    assert exit_code(monkeypatch, "vtop") == 0


PIPE = "raise BrokenPipeError(32, 'Broken pipe')"


def test_another_pipe_that_broke_is_no_reader_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_words: Any) -> None:
        exec(PIPE)

    monkeypatch.setattr("kvmtools.api.checking.rules", fail)
    assert exit_code(monkeypatch, "rules", stdout=tmp_path / "out") == 4
    assert capsys.readouterr().err == "kvmtools: Broken pipe\n"


@pytest.mark.usefixtures("tiny")
def test_a_scripts_own_pipe_is_the_scripts_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _program(monkeypatch)
    assert exit_code(monkeypatch, "shell", "-e", PIPE, stdout=tmp_path / "out") == 1
    assert capsys.readouterr().err.endswith("BrokenPipeError: [Errno 32] Broken pipe\n")


@pytest.mark.usefixtures("tiny")
def test_a_script_that_prints_on_and_on_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    _program(monkeypatch)
    assert exit_code(monkeypatch, "shell", "-e", "for i in range(10**9): print(i)") == 0


def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    import drgn

    prog = drgn.Program()
    monkeypatch.setattr("kvmtools.api.prompt.namespace", lambda kernel, cr3: {"prog": prog, "cr3": cr3})
