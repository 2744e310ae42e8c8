"""``kvmtools model pkmap``: scripts, their pictures, and what happens at mistakes and at a BUG_ON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmtools.cli.model.pkmap_script import HELP, STARTABLE, WORDS, ScriptLine, parse
from kvmtools.cli.model.pkmap_steps import listed
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
        "B has page 2 at ff602000",
        "B is done",
    ]
    assert [step["lock"] for step in found["steps"]] == [None, "A", "A", None, "B", None, None]
    assert found["steps"][1]["used"] == [{"slot": 1, "virtual": "0xff601000", "count": 0, "page": 1}]
    waiting = invoke("model", "pkmap", stdin="start kmap 1\nstep\nB: kmap 2")
    assert "  3  B: kmap 2  → B spins on kmap_lock, which A holds\n" in waiting.out


def test_lowmem_and_a_deadlock(invoke: Invoke) -> None:
    found = document(invoke, "lowmem 7\nkmap 1\nB: kmap 2\nkmap 3\nB: kmap 4\nrun", "--slots", "2")
    assert found["steps"][0]["did"] == "A has it at c0007000, as ever"
    assert found["steps"][-1]["did"] == "deadlock, unless another thread unmaps a page"
    assert [step["deadlocked"] for step in found["steps"]] == [False] * 4 + [True, True]
    out = invoke("model", "pkmap", "--slots", "1", stdin="kmap 1\nkmap 2").out
    assert "TLBs flushed: 0; deadlock, unless another thread unmaps a page\n" in out


def test_a_deadlock_ends_if_another_thread_unmaps(invoke: Invoke) -> None:
    """A mapping may be handed over, so it is no lie that another thread could."""
    script = "kmap 1\nkmap 2\nB: kunmap 1\nA: run"
    steps = document(invoke, script, "--slots", "1")["steps"]
    assert [step["deadlocked"] for step in steps] == [False, True, False, False]
    assert steps[-1]["did"] == "A has page 2 at ff600000"


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
        (
            "kmap 1\nkmp 3",
            "line 2: 'kmp' is no operation (there are kmap, kunmap, flush, lowmem, interrupt, step, run)",
        ),
        ("kmap", "line 1: kmap takes one page number"),
        ("kmap 1 2", "line 1: kmap takes one page number"),
        ("flush 1", "line 1: flush takes no page number"),
        ("kmap x", "line 1: 'x' is no page number (pages are 0 to 1048575 or 0xfffff)"),
        ("kmap 0x100000", "line 1: '0x100000' is no page number"),
        ("kmap 0x", "line 1: '0x' is no page number"),
        ("kmap " + "9" * 5000, "is no page number"),
        ("kmap -1", "line 1: '-1' is no page number"),
        ("kmap 1048576", "line 1: '1048576' is no page number"),
        ("kmap ²", "line 1: '²' is no page number"),
        ("AB: kmap 1", "line 1: there is no thread 'AB' (threads are A to H)"),
        (": kmap 1", "line 1: there is no thread ''"),
        ("B:", "line 1: an operation is missing"),
        ("start run", "line 1: 'run' is no operation (there are kmap, kunmap, flush)"),
        ("run\nC: run", "line 2: C is in no call"),
        ("step", "line 1: A is in no call"),
        ("A: step", "line 1: A is in no call"),
        ("A: run", "line 1: A is in no call"),
        ("start kmap 1\nkmap 2", "line 2: A is in kmap_high already (let it run to the end of its call)"),
        ("start kmap 1\nlowmem 2", "line 2: A is in kmap_high already"),
        ("lowmem 0x375fe", "line 1: pfn 0x375fe is not in low memory (that is pfn 0 to 0x375fd here)"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(invoke: Invoke, script: str, says: str) -> None:
    outcome = invoke("model", "pkmap", stdin=script)
    assert outcome.code == 2
    assert says in str(outcome.error)


def test_lines_are_taken_apart() -> None:
    assert parse("") is None
    assert parse("  # kmap 3") is None
    assert parse(" C:start  kunmap 1048575 # x") == ScriptLine("C", "kunmap", 1048575, True)
    assert parse("lowmem 0X1f") == ScriptLine(None, "lowmem", 31, False)
    assert parse("run") == ScriptLine(None, "run", None, False)


def test_scripts_come_from_files(invoke: Invoke, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("kmap 1\n")
    assert "A has page 1" in invoke("model", "pkmap", str(script)).out
    assert "A has page 2" in invoke("model", "pkmap", "-", stdin="kmap 2").out


def test_the_last_page_of_lowmem(invoke: Invoke) -> None:
    """The default machine's highmem begins at pfn 0x375fe; with less RAM than that, lowmem ends with RAM."""
    assert document(invoke, "lowmem 0x375fd")["steps"][0]["did"] == "A has it at f75fd000, as ever"
    assert invoke("model", "pkmap", "--memory", "512M", stdin="lowmem 0x1ffdf").code == 0
    refusal = invoke("model", "pkmap", "--memory", "512M", stdin="lowmem 0x20000")
    assert (refusal.code, refusal.out) == (2, "")


def test_run_tells_of_everybody(invoke: Invoke) -> None:
    script = "kmap 1\nB: kmap 2\nrun\nC: kmap 3\nD: kmap 4\nrun\nkunmap 1\nB: start kunmap 2\nrun"
    found = document(invoke, script, "--slots", "2")["steps"]
    assert found[2]["did"] == "all are done"
    assert found[5]["did"] == "C sleeps for page 3; D sleeps for page 4"
    # C finds the cursor at 1: the next slot is 0, and the flush before it frees both.
    assert found[8]["did"] == "B is done; C has page 3 at ff600000; D has page 4 at ff601000"
    again = document(invoke, "kmap 1\nB: kmap 2\nkunmap 1\nC: kmap 3\nrun", "--slots", "1")["steps"]
    assert again[-1]["did"] == "B sleeps until a slot becomes unused"


def test_a_sleeper_can_begin_nothing(invoke: Invoke) -> None:
    outcome = invoke("model", "pkmap", "--slots", "1", stdin="kmap 1\nB: kmap 5\nB: kmap 6")
    assert "line 3: B sleeps for page 5 (another thread's kunmap wakes it" in str(outcome.error)


def test_what_a_line_says_is_printable(invoke: Invoke) -> None:
    """A control character that counts as a blank, and a comment with an escape sequence."""
    outcome = invoke("model", "pkmap", stdin="kmap\x1f1 # \x1b[1m\nkunmap\x1f2 # \x1b[1m\n")
    assert outcome.code == 1
    assert "  1  kmap 1  → " in outcome.out
    assert "  2  kunmap 2  → the kernel stops\n" in outcome.out
    assert outcome.out.replace("\n", "").isprintable()


def test_the_message_in_json_is_short(invoke: Invoke) -> None:
    assert len(document(invoke, "\0" * 300_000)["error"]["message"]) < 700


def test_a_bug_names_the_page_of_the_script(invoke: Invoke) -> None:
    outcome = invoke("model", "pkmap", stdin="kunmap 3")
    assert str(outcome.error) == "BUG_ON(!vaddr): kunmap of page 3, which is not mapped"


@pytest.mark.parametrize(("era", "code"), [("2.4", 1), ("2.6.32", 0), ("6.1", 0)])
def test_an_interrupt(invoke: Invoke, era: str, code: int) -> None:
    outcome = invoke("model", "pkmap", "--era", era, stdin="B: interrupt\nkmap 1\nB: kmap 1")
    assert "  1  B: interrupt  → B is an interrupt from now on\n" in outcome.out
    assert outcome.code == code
    if code:
        assert str(outcome.error) == (
            "BUG_ON(in_interrupt()): kmap by B, an interrupt, which may have to sleep there"
        )


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_mistake_loses_nothing_of_what_was_done(invoke: Invoke, form: str) -> None:
    outcome = invoke("model", "pkmap", "--format", form, stdin="kmap 1\nkmp 2\nkmap 3")
    assert outcome.code == 2
    assert str(outcome.error).startswith("line 2: 'kmp' is no operation")
    if form == "text":
        assert "A has page 1" in outcome.out
        assert "^ cursor" in outcome.out
    else:
        found = json.loads(outcome.out)
        assert [step["text"] for step in found["steps"]] == ["kmap 1"]
        assert found["bug"] is None
        assert found["error"] == {"line": 2, "message": str(outcome.error)}
        assert document(invoke, "kmap 1")["error"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--slots", "3"], "--slots 3: LAST_PKMAP is a power of two"),
        (["--slots", "511"], "(256 is one)"),
        (["--slots", "1024"], "--slots 1024: this kernel's pkmap has 512, and what lies above"),
        (["--slots", "2048", "--no-pae"], "this kernel's pkmap has 1024"),
    ],
)
def test_slots_that_no_kernel_could_have(invoke: Invoke, words: list[str], says: str) -> None:
    outcome = invoke("model", "pkmap", *words, stdin="kmap 1")
    assert outcome.code == 2
    assert says in str(outcome.error)


def test_as_many_slots_as_there_are(invoke: Invoke) -> None:
    assert document(invoke, "", "--slots", "512")["slots"] == 512
    assert document(invoke, "", "--slots", "1024", "--no-pae")["slots"] == 1024


def test_long_lists_are_cut_in_text_and_whole_in_json(invoke: Invoke) -> None:
    script = "\n".join(f"kmap {number}" for number in range(300))
    lines = invoke("model", "pkmap", stdin=script).out.splitlines()
    assert max(map(len, lines[:-1])) < 100
    assert any(line.startswith("      slots 1: page 0, 2: page 1, ") for line in lines)
    last = [line for line in lines if line.startswith("      A idle; has 0, 1, 2, ")][-1]
    shown = last.partition("; has ")[2].split(", ")
    assert shown[-1] == f"and {300 - (len(shown) - 1)} more"
    found = document(invoke, script)["steps"][-1]
    assert (len(found["used"]), found["threads"][0]["maps"]) == (300, list(range(300)))


def test_a_list_is_cut_where_the_line_ends() -> None:
    assert listed([]) == ""
    assert listed(["a" * 62]) == "a" * 62
    assert listed(["a" * 30] * 2) == "a" * 30 + ", " + "a" * 30
    assert listed(["a" * 30, "b" * 31, "c"]) == "a" * 30 + ", and 2 more"


def test_a_kernel_without_highmem_has_no_pkmap(invoke: Invoke) -> None:
    outcome = invoke("model", "pkmap", "--no-highmem", "--no-pae", stdin="kmap 1")
    assert isinstance(outcome.error, UsageError)
    assert "without CONFIG_HIGHMEM there is no pkmap" in str(outcome.error)


def test_two_texts_cannot_both_come_by_stdin(invoke: Invoke, tmp_path: Path) -> None:
    ram = "00000000-0009fbff : System RAM\n00100000-7fffffff : System RAM\n"
    for script in ((), ("-",)):
        outcome = invoke("model", "pkmap", "--e820", "-", *script, stdin=ram)
        assert outcome.code == 2
        says = "the RAM map and the script cannot both come by stdin (name a file for one of them)"
        assert str(outcome.error) == says
    file = tmp_path / "script"
    file.write_text("kmap 1\n")
    assert "A has page 1" in invoke("model", "pkmap", "--e820", "-", str(file), stdin=ram).out


def test_a_kernel_that_would_not_boot_is_said_to_be_one(invoke: Invoke) -> None:
    large = ("--memory", "64G", "--sizeof-page", "64")
    outcome = invoke("model", "pkmap", *large, stdin="kmap 1\n")
    assert outcome.code == 0
    assert outcome.err.startswith("kvmtools: this kernel would not boot: mem_map takes 1024.0 MiB")
    assert invoke("model", "walk", *large, "0xc1000000").err == outcome.err
    assert invoke("model", "pkmap", stdin="kmap 1\n").err == ""


def test_help_knows_every_word(invoke: Invoke) -> None:
    said = invoke("model", "pkmap", "--help").out
    for word in (*WORDS, "start", "0x3", "pfn"):
        assert word in HELP
        assert word in said
    assert set(STARTABLE) <= set(WORDS)
