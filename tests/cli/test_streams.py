"""Standard streams that are closed or full, and Ctrl-C before anything has begun: one line, and our exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KVMTOOLS = f"{sys.executable} -m kvmtools"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command.replace("kvmtools", KVMTOOLS)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("kvmtools rules >&-", 3, "stdout is closed"),
        ("kvmtools check -c nothing -s nothing >&-", 3, "stdout is closed"),
        ("kvmtools vtop -c nothing <&-", 2, "stdin is closed"),
        ("kvmtools vtop -c nothing - <&-", 2, "stdin is closed"),
        ("kvmtools shell -c nothing <&-", 2, "stdin is closed"),
        ("kvmtools model memmap - <&-", 2, "stdin is closed"),
        ("kvmtools model pkmap <&-", 2, "stdin is closed"),
        ("kvmtools model pkmap - <&-", 2, "stdin is closed"),
    ],
)
def test_a_stream_that_is_no_use(command: str, code: int, said: str) -> None:
    done = shell(command)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


PRINTING = [
    "rules", "--help", "check --help", "--version", "completion bash", "guest list", "guest status --format json",
    "model eras", "model layout --format json",
]  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", PRINTING)
def test_an_output_that_cannot_be_written_is_said_and_no_fault_of_ours(
    words: str, unbuffered: str, tmp_path: Path
) -> None:
    environment = f"XDG_CACHE_HOME={tmp_path} XDG_RUNTIME_DIR={tmp_path} PYTHONUNBUFFERED={unbuffered}"
    done = shell(f"{environment} kvmtools {words} >/dev/full")
    assert done.returncode == 3
    assert done.stderr == "kvmtools: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", PRINTING)
def test_a_reader_may_leave(words: str, unbuffered: str, tmp_path: Path) -> None:
    environment = f"XDG_CACHE_HOME={tmp_path} XDG_RUNTIME_DIR={tmp_path} PYTHONUNBUFFERED={unbuffered}"
    done = shell(f"({environment} kvmtools {words}; echo $? >&2) | true")
    assert done.stderr == "0\n"


def test_a_note_that_cannot_be_written_costs_no_output(tmp_path: Path) -> None:
    (tmp_path / "kvmtools" / "kernels" / "pae-damaged").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    command = f"XDG_CACHE_HOME={tmp_path} XDG_RUNTIME_DIR={tmp_path / 'run'} kvmtools guest list"
    whole = shell(command)
    assert "is damaged" in whole.stderr
    assert "no kernel is built" in whole.stdout
    for nowhere in ("2>/dev/full", "2>&-"):
        done = shell(f"{command} {nowhere}")
        assert (done.returncode, done.stdout, done.stderr) == (whole.returncode, whole.stdout, "")


def test_without_stderr_the_exit_code_stays() -> None:
    assert shell("kvmtools check -c nothing 2>&-").returncode == 3
    assert shell("kvmtools rules >&- 2>&-").returncode == 3
    assert shell("kvmtools rules pkmap.waiters 2>&-").stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("model layout --split 4G", 2),
        ("no-such-command", 2),
        ("model walk no-such-file", 2),
        ("check -c nothing", 3),
    ],
)
def test_who_reads_our_stderr_may_leave(words: str, code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "kvmtools", *words.split()], stderr=writer, check=False)
    finally:
        os.close(writer)
    assert done.returncode == code


def test_next_to_nothing_is_imported_before_ctrl_c_is_waited_for() -> None:
    """What Python itself imports as it starts is out of our hands, and so is ``re`` in the script that pip makes."""
    code = "import sys; before = set(sys.modules); import kvmtools.cli; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__future__", "errno", "gc", "kvmtools", "kvmtools.cli"}


def test_ctrl_c_in_the_middle_of_an_import(tmp_path: Path) -> None:
    """The import of click is the first that takes time."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from kvmtools.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "rules"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "kvmtools: interrupted\n")


@pytest.mark.parametrize(("raised", "code"), [("KeyboardInterrupt()", 130), ("SystemExit(143)", 143)])
def test_what_an_interrupt_could_not_mend_is_said(tmp_path: Path, raised: str, code: int) -> None:
    """Such as a guest that stays stopped, :mod:`kvmtools.attach.monitor.pause`; click stands in between."""
    program = f"""
import kvmtools.cli.rules
from kvmtools.cli import main

def fail():
    ending = {raised}
    ending.add_note("the guest may still be stopped")
    raise ending

kvmtools.cli.rules.command.callback = fail
kvmtools.cli.rules.command.params = []
main("rules")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == "kvmtools: the guest may still be stopped"
    assert "Traceback" not in done.stderr
