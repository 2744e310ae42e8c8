"""What all commands have in common: help, formats, lazy imports, completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

from kvmtools.cli.group import cli

COMMANDS = ("vtop", "walk", "memmap", "pkmap", "layout", "zones", "regs", "shell", "rules")
HEAVY = ("numpy", "drgn", "asyncio", "qemu.qmp", "pygdbmi", "rich")
Invoke = Callable[..., Any]


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_for_the_shell(invoke: Invoke, name: str) -> None:
    assert f"kvmtools {name}" in invoke(name, "--help").out.replace("Usage: kvmtools", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_explains_itself(name: str) -> None:
    for option in command(name).params:
        if isinstance(option, click.Option):
            assert option.help, option.name


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "shell"])
def test_every_command_speaks_json(name: str) -> None:
    option = next(param for param in command(name).params if param.name == "form")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == ["text", "json"]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from kvmtools.cli.group import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["model", "lay"], "Did you mean layout?"),
        (["chek"], "Did you mean check or schema?"),
        (["guest", "strt"], "Did you mean start or status?"),
        (["nothing-like-it"], None),
    ],
)
def test_a_misspelt_command_is_guessed(invoke: Invoke, words: list[str], meant: str | None) -> None:
    with pytest.raises(click.UsageError) as refusal:
        invoke(*words)
    said = refusal.value.format_message()
    assert said.startswith(f"No such command {words[-1]!r}.")
    assert said.partition(". ")[2] == (meant or "")


def completions(*words: str) -> list[str]:
    *before, incomplete = words
    found = ShellComplete(cli, {}, "kvmtools", "_KVMTOOLS_COMPLETE").get_completions(before, incomplete)
    return [item.value for item in found]


def test_regions_are_completed() -> None:
    assert completions("walk", "--region", "pk") == ["pkmap"]
    assert "kernel-text" in completions("walk", "--region", "kernel")


def test_pids_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_kernel(**options: Any) -> Any:
        assert options["guest"] == "pae"
        assert not options["pause"]
        return nullcontext(SimpleNamespace(processes=lambda: processes))

    processes = tuple(SimpleNamespace(pid=pid, comm=f"task{pid}") for pid in (1, 17, 23))
    monkeypatch.setattr("kvmtools.api.opening.open_kernel", open_kernel)
    assert completions("vtop", "-g", "pae", "--pid", "1") == ["1", "17"]


def test_no_guest_no_completions() -> None:
    assert completions("vtop", "-g", "no-such-guest", "--pid", "") == []


@pytest.mark.parametrize("option", ["--qemu", "--gdb"])
def test_an_address_may_be_a_path(option: str) -> None:
    """The shell completes it, as it does any file."""
    complete = ShellComplete(cli, {}, "kvmtools", "_KVMTOOLS_COMPLETE")
    (item,) = complete.get_completions(["check", option], "run/q")
    assert (item.type, item.value) == ("file", "run/q")
