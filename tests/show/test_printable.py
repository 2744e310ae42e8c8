"""What a message repeats of the input: printable, and not all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvmtools.cli.output import note
from kvmtools.errors import UsageError
from kvmtools.show.printable import LONGEST, brief, printable, told


def test_printable() -> None:
    assert printable("a\x1b[1m\n\x00\xa0é\udcff") == "a\\x1b[1m\\n\\x00\\xa0é\\udcff"


def test_brief_leaves_out_the_middle() -> None:
    assert brief("x" * LONGEST) == "x" * LONGEST
    half = (LONGEST - 5) // 2
    assert brief(f"'{'x' * 10_000}' is nothing") == f"'{'x' * (half - 1)} ... {'x' * (half - 12)}' is nothing"
    # The escapes count too.
    assert len(brief("\x00" * LONGEST)) <= LONGEST


def test_a_hint_stays_whole() -> None:
    hint = "do this, " * 100 + "\x1b"
    assert told(UsageError("what\n is \x1b that", hint=hint)) == (
        f"what is \\x1b that ({hint.replace(chr(27), chr(92) + 'x1b')})"
    )
    assert told(UsageError("x" * 10_000)) == told("x" * 10_000) == brief("x" * 10_000)


def test_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    note(UsageError("\x1b", hint="no"))
    assert capsys.readouterr().err == "kvmtools: \\x1b (no)\n"


LONG = "\x1b" + "x" * 100_000


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("pkmap", "--slots", "2"), "\0" * 300_000, "is no operation (there are kmap"),
        (("memmap", LONG), "", "is no question (write a pfn"),
        (("memmap", "-"), LONG, "is no question (write a pfn"),
        (("walk", "0x0", LONG), "", "is not an address (an address looks like"),
        (("walk", LONG), "", "File name too long (an address looks like"),
        (("layout", "--append", LONG, "--e820", LONG), "", "File name too long (write 0-640K"),
        (("layout", "--split", LONG), "", "is not one of '3G'"),
        ((f"--{LONG}",), "", "No such option"),
        ((LONG,), "", "No such command"),
        (("eras", "--format", "json", f"--field={LONG}"), "", "(kvmtools model eras shows them all)"),
    ],
)
def test_errors_repeat_no_more_than_they_must(words: tuple[str, ...], stdin: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvmtools.model", *words],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr) < 2 * LONGEST
    assert done.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "words",
    [
        "layout --e820 /dev/zero",
        "layout --e820 -",
        "walk /dev/zero 0",
        "walk - 0",
        "pkmap /dev/zero",
        "pkmap",
        "memmap -",
    ],
)
def test_what_never_ends_is_refused(words: str) -> None:
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run(
            [sys.executable, "-m", "kvmtools.model", *words.split()],
            stdin=endless,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr.endswith(" is larger than 16 MiB\n")
