"""Both entry points of the model's commands, where nothing but the standard library and click can be imported."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import CompletionItem, ShellComplete

from kvmtools.cli.group import Commands, cli
from kvmtools.cli.model import command as model

ABSENT = ("numpy", "drgn", "qemu", "pygdbmi", "rich", "elftools", "matplotlib")
ROOT = Path(__file__).resolve().parents[3]
NAMES = model.list_commands(click.Context(model))

#: Whoever asks for one of them is refused, wherever the question is put, and noted on stderr at the end.
WITHOUT = f"""
import sys

class Refuse:
    asked = []

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT}:
            self.asked.append(name)
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
sys.argv = ["kvmtools", *sys.argv[1:]]
try:
    {{entry}}
finally:
    print("asked for", Refuse.asked, file=sys.stderr)
"""
ENTRY_POINTS = {
    "kvmtools model": "from kvmtools.cli import main; main('model')",
    "python -m kvmtools.model": "import runpy; runpy.run_module('kvmtools.model', run_name='__main__')",
}


def started(entry: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(entry=ENTRY_POINTS[entry])
    # What a command that reads a script from stdin finds there.
    script = "kmap 1\n"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        input=script,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
    )


def examples() -> list[str]:
    """The commands that the group's and every command's help show; comments and explanations left out."""
    every = [model, *(model.get_command(click.Context(model), name) for name in NAMES)]
    lines = [line.strip() for each in every if each is not None for line in (each.help or "").splitlines()]
    return [re.split("  +|#", line)[0] for line in lines if line.startswith("kvmtools model ")]


PICTURES = [each for each in examples() if "--plot" in each]


def test_the_group_is_what_the_issue_asks_for() -> None:
    assert set(NAMES) >= {"budget", "eras", "layout", "memmap", "pkmap", "walk"}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_an_example_of_its_own(name: str) -> None:
    assert any(example.startswith(f"kvmtools model {name}") for example in examples())


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_both_entry_points_lead_to_the_same_help(entry: str) -> None:
    done = started(entry, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: kvmtools model [OPTIONS] COMMAND [ARGS]...")
    assert all(f"\n  {name} " in done.stdout for name in NAMES)
    assert done.stderr == "asked for []\n"


@pytest.mark.parametrize("example", [each for each in examples() if each not in PICTURES])
def test_examples_run_where_nothing_else_is_installed(example: str) -> None:
    """From the checkout, where fixtures/ is; 1 is the answer of a walk that ends in a fault."""
    words = shlex.split(example)[2:]
    done = started("kvmtools model", *words, cwd=ROOT)
    assert done.returncode in ((0, 1) if words[0] == "walk" else (0,)), done.stderr
    assert done.stdout.strip()
    assert done.stderr.splitlines()[-1] == "asked for []"


@pytest.mark.parametrize("example", PICTURES)
def test_examples_with_a_picture_run(example: str, tmp_path: Path) -> None:
    words = shlex.split(example)[2:]
    done = subprocess.run([sys.executable, "-m", "kvmtools.model", *words], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [words[words.index("--plot") + 1]]


def test_both_doors_answer_alike() -> None:
    answers = {
        started(entry, "budget", "--memory", "8G", "--format", "json").stdout for entry in ENTRY_POINTS
    }
    (answer,) = answers
    assert json.loads(answer)["command"] == "model budget"


def test_a_plot_says_what_is_missing(tmp_path: Path) -> None:
    done = started("python -m kvmtools.model", "budget", "--plot", str(tmp_path / "budget.svg"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "kvmtools: --plot needs matplotlib (pip install 'kvmtools[plot]')"
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_refuses() -> None:
    """Else nothing above would prove anything."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(entry="import numpy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "asked for ['numpy']"


def test_usage_errors_leave_by_either_door() -> None:
    for entry in ENTRY_POINTS:
        done = started(entry, "budget", "--era", "2.7")
        assert done.returncode == 2
        assert "2.7" in done.stderr


def completed(*words: str) -> list[CompletionItem]:
    *before, incomplete = words
    return ShellComplete(cli, {}, "kvmtools", "_KVMTOOLS_COMPLETE").get_completions(before, incomplete)


def completions(*words: str) -> list[str]:
    return [item.value for item in completed(*words)]


def test_the_tab_key() -> None:
    assert isinstance(model, Commands)
    assert completions("mod") == ["model"]
    assert completions("model", "") == NAMES
    assert completions("model", "bu") == ["budget"]
    assert "--plot" in completions("model", "budget", "--")
    assert completions("model", "budget", "--era", "2.6.1") == ["2.6.18"]
    assert completions("model", "budget", "--split", "2") == ["2G", "2G_OPT"]


@pytest.mark.parametrize(
    "words", [("walk",), ("walk", "--e820"), ("layout", "--e820"), ("walk", "--memory", "1G")]
)
def test_the_tab_key_knows_files(words: tuple[str, ...]) -> None:
    (item,) = completed("model", *words, "fix")
    assert (item.type, item.value) == ("file", "fix")


def test_the_tab_key_knows_one_file(tmp_path: Path) -> None:
    assert completions("model", "walk", "tables.txt", "fix") == []


@pytest.mark.parametrize(
    ("begun", "whole"),
    [
        ("", ["read", "write", "fetch", "user", "smep", "smap", "ac", "no-wp"]),
        ("s", ["smep", "smap"]),
        ("write,", ["write,user", "write,smep", "write,smap", "write,ac", "write,no-wp"]),
        ("user,smep,f", ["user,smep,fetch"]),
        ("user,u", []),
    ],
)
def test_the_tab_key_knows_accesses(begun: str, whole: list[str]) -> None:
    assert completions("model", "walk", "tables.txt", "0", "--access", begun) == whole
