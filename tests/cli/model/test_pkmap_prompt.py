"""The prompt of ``kvmtools model pkmap``: what a person may type, and how it ends."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kvmtools.cli.model import pkmap as ours
from kvmtools.cli.model import pkmap_prompt
from kvmtools.cli.model.pkmap_script import HELP, STARTABLE, WORDS
from kvmtools.show.drawing import LEGEND

Invoke = Callable[..., Any]
CTRL_C = "\x03"


def prompted(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke, *lines: str, words: tuple[str, ...] = ()
) -> Any:
    """The command on a terminal where a person types these lines, and then Ctrl-D."""
    typed = iter(lines)

    def ask(prompt: str) -> str:
        assert prompt == "pkmap> "
        try:
            line = next(typed)
        except StopIteration:
            raise EOFError from None
        if line == CTRL_C:
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr(ours, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    return invoke("model", "pkmap", "--slots", "2", *words)


def test_the_prompt(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    outcome = prompted(monkeypatch, invoke, "help", "", "kmap 1", "nonsense", "kunmap 1", " quit ", "kmap 9")
    assert outcome.code == 0
    assert outcome.out.startswith(f"2 slots; help lists the words, quit leaves\n{HELP}\n{LEGEND}\n")
    # Only lines that did something have a number.
    assert "  1  kmap 1  → A has page 1 at ff601000" in outcome.out
    assert "  2  kunmap 1  → A is done" in outcome.out
    assert "page 9" not in outcome.out
    assert "kvmtools: 'nonsense' is no operation" in outcome.err


def test_the_prompt_ends_with_the_input_or_with_the_kernel(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    assert prompted(monkeypatch, invoke, "kmap 1").code == 0
    outcome = prompted(monkeypatch, invoke, "kunmap 1", "kmap 1")
    assert outcome.code == 1
    assert "not mapped" in str(outcome.error)


@pytest.mark.parametrize("word", ["quit", "exit", "q", "QUIT # bye"])
def test_ways_out(monkeypatch: pytest.MonkeyPatch, invoke: Invoke, word: str) -> None:
    outcome = prompted(monkeypatch, invoke, word, "kmap 1")
    assert (outcome.code, outcome.out) == (0, "2 slots; help lists the words, quit leaves\n")


@pytest.mark.parametrize("word", ["help", "h", "?"])
def test_ways_to_help(monkeypatch: pytest.MonkeyPatch, invoke: Invoke, word: str) -> None:
    assert HELP in prompted(monkeypatch, invoke, word).out


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("start ", {*STARTABLE}),
        ("B: ", {*WORDS, "start"}),
        ("B:", {*WORDS, "start"}),
        ("B: start ", {*STARTABLE}),
        ("B:start ", {*STARTABLE}),
        ("kmap ", set()),
        ("B: kmap ", set()),
        ("run # ", set()),
    ],
)
def test_the_tab_key_offers_what_fits(before: str, offered: set[str]) -> None:
    found = iter(lambda: pkmap_prompt.complete(before, "", next(number)), None)
    number = itertools.count()
    assert {word.strip() for word in found if word} == offered


def test_the_tab_key_looks_at_the_line(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    completers: list[Any] = []
    line = SimpleNamespace(
        get_line_buffer=lambda: "B: start k",
        get_begidx=lambda: 9,
        set_completer=completers.append,
        parse_and_bind=lambda _binding: None,
    )
    monkeypatch.setitem(sys.modules, "readline", line)
    prompted(monkeypatch, invoke)
    (completer,) = completers
    assert [completer("k", number) for number in range(3)] == ["kmap ", "kunmap ", None]


def test_ctrl_c_drops_the_line_and_not_the_session(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    outcome = prompted(monkeypatch, invoke, "kmap 1", CTRL_C, CTRL_C, "kmap 2", "quit")
    assert outcome.code == 0
    assert "  2  kmap 2  → A has page 2" in outcome.out
    assert "Ctrl-C drops the line" in HELP


def test_the_prompt_speaks_no_json(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    outcome = prompted(monkeypatch, invoke, "kmap 1", words=("--format", "json"))
    assert (outcome.code, outcome.out) == (2, "")
    assert "the prompt speaks no JSON" in str(outcome.error)


def test_the_tab_key_completes_words(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    assert [pkmap_prompt.complete("", "k", number) for number in range(3)] == ["kmap ", "kunmap ", None]
    assert pkmap_prompt.complete("", "st", 0) == "start "
    assert pkmap_prompt.complete("", "B", 0) == "B: "
    assert pkmap_prompt.complete("", "x", 0) is None
    monkeypatch.setitem(sys.modules, "readline", None)
    assert prompted(monkeypatch, invoke).code == 0
