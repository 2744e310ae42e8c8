"""The published JSON Schema is one, and what every command prints is as it says; a check that is not is refused."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from breaks.buddy import block_inside_block, list_cut
from breaks.pkmap import used_slot_forgotten
from click.testing import CliRunner
from hostile_result import result as hostile_result
from hostile_text import ALL
from json_documents import strict, valid
from jsonschema import Draft202012Validator, ValidationError
from opened_kernel import always_opens, recorded_session
from recorded_guest import load

from kvmtools.cli.group import cli
from kvmtools.report import render
from kvmtools.report.json_schema import json_schema, json_schema_text

CLI = Path(__file__).resolve().parents[2] / "kvmtools" / "cli"
SCRIPT = "kmap 3\nkmap 4\nB: kmap 5\nkunmap 3\nB: run\n"
OF_A_GUEST = (
    "check",
    "check --only pkmap --skip pkmap.waiters",
    "vtop swapper_pg_dir 0x1000",
    "walk",
    "walk --raw --region pkmap",
    "memmap",
    "memmap 0 0x100",
    "pkmap",
    "layout",
    "zones",
    "regs",
)
WITHOUT = (
    "rules",
    "model layout",
    "model layout --no-highmem --no-pae",
    "model layout --diff 2.4 6.1",
    "model walk fixtures/paging/pae-rights.txt 0x00200000 0x0",
    "model walk fixtures/paging/pae-rights.txt 0x00200000 --access write,user",
    "model walk fixtures/paging/pae-rights.txt",
    "model walk",
    "model memmap",
    "model memmap --e820 0-2G,32G-34G",
    "model memmap 0x100 page=0xf5000020",
    "model budget",
    "model budget --memory 4G",
    "model eras",
)


def printed(words: str, stdin: str | None = None) -> str:
    done = CliRunner().invoke(cli, [*words.split(), "--format", "json"], input=stdin, standalone_mode=False)
    assert done.exception is None, done.exception
    return done.stdout


def commands_of_json() -> Iterator[str]:
    """The first argument of every ``emit_json``; of a name that is handed on, nothing."""
    for path in CLI.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "emit_json":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield str(first.value)


def test_it_is_a_schema_and_the_command_prints_it() -> None:
    Draft202012Validator.check_schema(json_schema())
    Draft202012Validator.check_schema(strict().schema)
    done = CliRunner().invoke(cli, ["schema"])
    assert done.stdout == json_schema_text()


def test_it_knows_every_command_that_prints_json() -> None:
    known = set(json_schema()["$defs"]["commands"])
    assert known == set(json_schema()["properties"]["command"]["enum"])
    assert len(set(commands_of_json())) > 12
    assert set(commands_of_json()) <= known


@pytest.mark.parametrize("guest", ["pae", "nopae", "numa"])
@pytest.mark.parametrize("words", OF_A_GUEST)
def test_what_is_printed_of_a_guest(words: str, guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if guest == "numa" and words.startswith("memmap 0"):
        words = "memmap 0x10"
    always_opens(monkeypatch, recorded_session(guest))
    assert valid(printed(words))["command"] == words.split()[0]


@pytest.mark.parametrize("words", WITHOUT)
def test_what_is_printed_without_one(words: str) -> None:
    name = words.split()[0]
    assert valid(printed(words))["command"].startswith(name)


def test_what_is_different_of_two_recordings() -> None:
    words = [f"fixtures/guests/{name}.vmcore.zst" for name in ("pae", "nopae")]
    done = CliRunner().invoke(cli, ["diff", *words, "--format", "json"], standalone_mode=False)
    assert done.return_value == 1
    document = valid(done.stdout)
    assert all(document[name] for name in ("mappings", "processes", "pages", "zones"))
    assert document["pkmap"]["slots"]


def test_what_a_script_of_the_model_prints() -> None:
    assert valid(printed("model pkmap --slots 2", SCRIPT))["error"] is None
    done = CliRunner().invoke(cli, ["model", "pkmap", "--format", "json"], input="kunmap 3\n")
    assert valid(done.stdout)["bug"] is not None


def test_a_broken_guest_and_a_hostile_one() -> None:
    guest = load("pae")
    for do in (list_cut, block_inside_block, used_slot_forgotten):
        do(guest)
    document = valid(render(guest.check(), "json"))
    assert document["consequences_total"]
    hostile = hostile_result(ALL)
    hostile.kernel["slide"] = "0x1e800000"  # no word of the guest's own
    assert valid(render(hostile, "json"))["kernel"]["release"] == ALL


def test_a_run_holds_results() -> None:
    result = {k: v for k, v in a_check().items() if k not in ("schema", "command")}
    strict().validate({"schema": "kvmtools/1", "command": "run", "guests": {"pae": result}})


def a_check() -> dict[str, Any]:
    guest = load("pae")
    used_slot_forgotten(guest)
    document: dict[str, Any] = json.loads(render(guest.check(), "json"))
    return document


@pytest.mark.parametrize(
    "do",
    [
        lambda d: d.update(more=1),
        lambda d: d.pop("verdict"),
        lambda d: d.update(verdict="fine"),
        lambda d: d.update(schema="kvmtools/2"),
        lambda d: d.update(command="uncheck"),
        lambda d: d["outcomes"][0].update(more=1),
        lambda d: d["outcomes"][0].pop("truth"),
        lambda d: d["registers"][0].update(cr3=4096),
        lambda d: d["registers"][0].update(cr3="0x1F"),
        lambda d: d["kernel"].update(more=1),
    ],
)
def test_what_is_not_as_the_schema_says_is_refused(do: Any) -> None:
    document = copy.deepcopy(a_check())
    strict().validate(document)
    do(document)
    with pytest.raises(ValidationError):
        strict().validate(document)


def test_the_published_schema_leaves_room_for_keys_to_come() -> None:
    document = a_check()
    document["more"] = document["outcomes"][0]["more"] = 1
    published = Draft202012Validator(json_schema())
    published.validate(document)
    del document["outcomes"][0]["truth"]
    assert not published.is_valid(document)
