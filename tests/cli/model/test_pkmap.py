"""``kvmtools model pkmap``: scripts, their pictures, and what happens at mistakes and at a BUG_ON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvmtools.cli.model import pkmap as ours
from kvmtools.cli.model.pkmap_script import HELP, STARTABLE, WORDS, Line, parse
from kvmtools.errors import UsageError
from kvmtools.model.bugs import KernelBug

Invoke = Callable[..., Any]
SLEEP = "kmap 3 # the first\n\nkmap 4\nB: kmap 5\nkunmap 3\nB: run\n"


def document(invoke: Invoke, script: str, *words: str) -> dict[str, Any]:
    found = json.loads(invoke("model", "pkmap", "--format", "json", *words, stdin=script).out)
    assert (found["schema"], found["command"]) == ("kvmtools/1", "model pkmap")
    return dict(found)


def test_a_sleeper_is_woken_and_gets_its_page(invoke: Invoke) -> None:
    found = document(invoke, SLEEP, "--slots", "2")
    assert (found["era"], found["base"], found["slots"], found["bug"]) == ("6.1", "0xff600000", 2, None)
    steps = found["steps"]
    assert [step["line"] for step in steps] == [1, 3, 4, 5, 6]
    assert [step["text"] for step in steps] == ["kmap 3", "kmap 4", "B: kmap 5", "kunmap 3", "B: run"]
    assert [step["did"] for step in steps] == [
        "A has page 3 at ff601000",
        "A has page 4 at ff600000",
        "B sleeps until a slot becomes unused",
        "A is done",
        "B has page 5 at ff601000",
    ]
    assert [step["cursor"] for step in steps] == [1, 0, 1, 1, 1]
    assert [step["flushes"] for step in steps] == [0, 0, 0, 0, 1]
    assert steps[2]["threads"] == [
        {"name": "A", "situation": "idle", "maps": [3, 4]},
        {"name": "B", "situation": "sleeps for page 5", "maps": []},
    ]
    assert steps[3]["threads"][1]["situation"] == "in remove_wait_queue"
    assert steps[3]["used"] == [
        {"slot": 0, "virtual": "0xff600000", "count": 2, "page": 4},
        {"slot": 1, "virtual": "0xff601000", "count": 1, "page": 3},
    ]


def test_the_slots_are_drawn_after_each_line(invoke: Invoke) -> None:
    out = invoke("model", "pkmap", "--slots", "2", stdin=SLEEP).out
    assert (
        "  4  B: kmap 5  → B sleeps until a slot becomes unused\n   0  ff600000  11\n                 ^\n"
        in out
    )
    assert "   0  ff600000  1o\n" in out
    assert (
        "      slots 0: page 4, 1: page 5\n      A idle; has 4\n      B idle; has 5\n      TLBs flushed: 1\n"
        in out
    )
    assert out.count("^ cursor") == 1
    empty = invoke("model", "pkmap", stdin="# nothing\n")
    assert (empty.code, empty.out) == (0, "")
    assert "no slot is mapped" in invoke("model", "pkmap", stdin="flush").out


def test_an_era_has_its_own_area(invoke: Invoke) -> None:
    old = document(invoke, "kmap 0", "--era", "2.4", "--no-pae")
    assert (old["era"], old["base"], old["slots"]) == ("2.4", "0xfe000000", 1024)
    assert old["steps"][0]["did"] == "A has page 0 at fe001000"
    assert document(invoke, "kmap 0")["slots"] == 512
    refusal = invoke("model", "pkmap", "--era", "2.4", stdin="flush")
    assert refusal.code == 2
    assert "line 1: 2.4 has no kmap_flush_unused" in str(refusal.error)


def test_steps_stop_within_a_call(invoke: Invoke) -> None:
    found = document(invoke, "start kmap 1\nstep\nB: start kmap 2\nA: run\nB: step\nrun\nB:flush")
    assert [step["did"] for step in found["steps"]] == [
        "A begins",
        "A: slot 1: set_pte",
        "B begins",
        "A has page 1 at ff601000",
        "B: slot 2: set_pte",
        "nobody can go on",
        "B is done",
    ]
    assert [step["lock"] for step in found["steps"]] == [None, "A", "A", None, "B", None, None]
    assert found["steps"][1]["used"] == [{"slot": 1, "virtual": "0xff601000", "count": 0, "page": 1}]
    waiting = invoke("model", "pkmap", stdin="start kmap 1\nstep\nB: kmap 2")
    assert "  3  B: kmap 2  → B spins on kmap_lock, which A holds\n" in waiting.out


def test_lowmem_and_a_deadlock(invoke: Invoke) -> None:
    found = document(invoke, "lowmem 7\nkmap 1\nB: kmap 2\nkmap 3\nB: kmap 4\nrun", "--slots", "2")
    assert found["steps"][0]["did"] == "A has it at c0007000, as ever"
    assert found["steps"][-1]["did"] == "deadlock: all who could wake others sleep"
    assert [step["deadlocked"] for step in found["steps"]] == [False] * 4 + [True, True]
    out = invoke("model", "pkmap", "--slots", "1", stdin="kmap 1\nkmap 2").out
    assert "TLBs flushed: 0; deadlock" in out


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_bug_ends_the_script_with_1(invoke: Invoke, form: str) -> None:
    outcome = invoke(
        "model", "pkmap", "--slots", "4", "--format", form, stdin="kmap 3\nkunmap 3\nkunmap 3\nkmap 1"
    )
    assert outcome.code == 1
    assert isinstance(outcome.error, KernelBug)
    if form == "text":
        assert "  3  kunmap 3  → the kernel stops\n" in outcome.out
    else:
        found = json.loads(outcome.out)
        assert len(found["steps"]) == 2
        assert (found["bug"]["line"], found["bug"]["condition"]) == (3, "--pkmap_count[nr] == 0")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("kmap 1\nkmp 3", "line 2: 'kmp' is no operation (there are kmap, kunmap, flush, lowmem, step, run)"),
        ("kmap", "line 1: kmap takes one page number"),
        ("kmap 1 2", "line 1: kmap takes one page number"),
        ("flush 1", "line 1: flush takes no page number"),
        ("kmap x", "line 1: 'x' is no page number (pages are 0 to 1048575)"),
        ("kmap 1048576", "line 1: '1048576' is no page number"),
        ("kmap ²", "line 1: '²' is no page number"),
        ("AB: kmap 1", "line 1: there is no thread 'AB' (threads are A to H)"),
        (": kmap 1", "line 1: there is no thread ''"),
        ("B:", "line 1: an operation is missing"),
        ("start run", "line 1: 'run' is no operation (there are kmap, kunmap, flush)"),
        ("run\nC: run", "line 2: C is in no call"),
        ("step", "line 1: A is in no call"),
        ("start kmap 1\nkmap 2", "line 2: A is in kmap_high already (let it run to the end of its call)"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(invoke: Invoke, script: str, says: str) -> None:
    outcome = invoke("model", "pkmap", stdin=script)
    assert outcome.code == 2
    assert says in str(outcome.error)


def test_lines_are_taken_apart() -> None:
    assert parse("") is None
    assert parse("  # kmap 3") is None
    assert parse(" C:start  kunmap 1048575 # x") == Line("C", "kunmap", 1048575, True)
    assert parse("run") == Line(None, "run", None, False)


def test_scripts_come_from_files(invoke: Invoke, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("kmap 1\n")
    assert "A has page 1" in invoke("model", "pkmap", str(script)).out
    assert "A has page 2" in invoke("model", "pkmap", "-", stdin="kmap 2").out
    missing = invoke("model", "pkmap", str(tmp_path / "none"))
    assert missing.code == 2
    assert "cannot read the script" in str(missing.error)
    script.write_bytes(b"\xff\xfe")
    assert invoke("model", "pkmap", str(script)).code == 2


def test_a_kernel_without_highmem_has_no_pkmap(invoke: Invoke) -> None:
    outcome = invoke("model", "pkmap", "--no-highmem", "--no-pae", stdin="kmap 1")
    assert isinstance(outcome.error, UsageError)
    assert "without CONFIG_HIGHMEM there is no pkmap" in str(outcome.error)


def prompted(monkeypatch: pytest.MonkeyPatch, invoke: Invoke, *lines: str) -> Any:
    """The command on a terminal where a person types these lines, and then Ctrl-D."""
    typed = iter(lines)

    def ask(prompt: str) -> str:
        assert prompt == "pkmap> "
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr(ours, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    return invoke("model", "pkmap", "--slots", "2")


def test_the_prompt(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    outcome = prompted(monkeypatch, invoke, "help", "", "kmap 1", "nonsense", "kunmap 1", " quit ", "kmap 9")
    assert outcome.code == 0
    assert outcome.out.startswith("2 slots; help lists the words, quit leaves\n" + HELP + "\n")
    assert "A has page 1 at ff601000" in outcome.out
    assert "  5  kunmap 1  → A is done" in outcome.out
    assert "page 9" not in outcome.out
    assert "kvmtools: 'nonsense' is no operation" in outcome.err


def test_the_prompt_ends_with_the_input_or_with_the_kernel(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    assert prompted(monkeypatch, invoke, "kmap 1").code == 0
    outcome = prompted(monkeypatch, invoke, "kunmap 1", "kmap 1")
    assert outcome.code == 1
    assert "not mapped" in str(outcome.error)


def test_the_tab_key_completes_words(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    assert [ours.complete("k", number) for number in range(3)] == ["kmap ", "kunmap ", None]
    assert ours.complete("st", 0) == "start "
    assert ours.complete("B", 0) == "B: "
    assert ours.complete("x", 0) is None
    monkeypatch.setitem(sys.modules, "readline", None)
    assert prompted(monkeypatch, invoke).code == 0


def test_help_knows_every_word(invoke: Invoke) -> None:
    said = invoke("model", "pkmap", "--help").out
    for word in (*WORDS, "start"):
        assert word in HELP
        assert word in said
    assert set(STARTABLE) <= set(WORDS)
