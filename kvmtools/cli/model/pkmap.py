"""``kvmtools model pkmap``: a script of ``kmap`` and ``kunmap``, and the slots after each of its lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kvmtools.cli.drawing import LEGEND, slot_mark, slots_picture
from kvmtools.cli.model.options import machine_options
from kvmtools.cli.model.pkmap_script import HELP, NAMES, STARTABLE, WORDS, Machine, parse
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.tables import hexadecimal, paint
from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pkmap import PkmapArea
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration

PROMPT = "pkmap> "


@click.command()
@click.argument("script", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--slots",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="LAST_PKMAP.  [default: 512 with PAE, else 1024]",
)
@machine_options
@format_option
def command(configuration: Configuration, script: Path | None, slots: int | None, form: str) -> int:
    """Run a SCRIPT of kmap and kunmap on the model, and draw the slots of pkmap after each line.

    Without SCRIPT the lines come from stdin; on a terminal there is a prompt, where "help" lists the words.
    It exits with 1 if the kernel would have stopped at a BUG_ON, with 2 at a line that makes no sense.

    \b
    kmap PAGE, kunmap PAGE   run until the call is done, or its thread sleeps
    flush                    kmap_flush_unused: unmap what nobody uses
    lowmem PAGE              kmap of a page that needs no slot
    start WORD ...           only begin a kmap, kunmap or flush
    step, run                go on by one store; until it is done or asleep
    B: WORD ...              another thread than A does it (A to H)

    \b
    printf 'kmap 3\\nkmap 4\\nB: kmap 5\\nkunmap 3\\nB: run\\n' | kvmtools model pkmap --slots 2
    kvmtools model pkmap --era 2.4 --no-pae
    """
    area = Prediction(configuration).pkmap
    if area is None:
        raise UsageError("without CONFIG_HIGHMEM there is no pkmap", hint="leave out --no-highmem")
    if slots is not None:
        area = PkmapArea(area.base, slots, area.protection)
    era = eras.shown(configuration.marks)
    machine = Machine(area, era, configuration.page_offset)
    if script is None and sys.stdin.isatty():
        return _prompt(machine)
    steps = []
    bug: KernelBug | None = None
    for number, text in enumerate(_lines(script), 1):
        try:
            step = _step(machine, number, text)
        except UsageError as error:
            raise UsageError(f"line {number}: {error.message}", hint=error.hint) from error
        except KernelBug as error:
            bug = error
            if form == "text":
                emit(paint(f"{number:>3}  {text.strip()}", bold=True) + "  → the kernel stops")
            break
        if step is not None:
            steps.append(step)
            if form == "text":
                emit("\n".join(_drawn(machine, step)))
    if form == "json":
        said = {"line": number, "condition": bug.condition, "message": bug.message} if bug else None
        emit_json(
            "model pkmap", era=era.name, base=hexadecimal(area.base), slots=area.slots, steps=steps, bug=said
        )
    elif steps:
        emit("\n" + paint(LEGEND, dim=True))
    if bug is not None:
        raise bug
    return 0


def _lines(script: Path | None) -> list[str]:
    if script is None or str(script) == "-":
        return sys.stdin.read().splitlines()
    try:
        return script.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the script {script}: {error}") from error


def _step(machine: Machine, number: int, text: str) -> dict[str, Any] | None:
    """Do one line; what it said, what came of it, and how things stand then."""
    line = parse(text)
    if line is None:
        return None
    did = machine.do(line)
    table, threads = machine.threads.table, machine.threads
    return {
        "line": number,
        "text": text.partition("#")[0].strip(),
        "did": did,
        "cursor": table.last_pkmap_nr,
        "flushes": table.flushes,
        "lock": threads.owner.name if threads.owner else None,
        "used": [
            {
                "slot": slot,
                "virtual": hexadecimal(table.area.address_of(slot)),
                "count": count,
                "page": None if page is None else machine.number(page),
            }
            for slot, (count, page) in enumerate(zip(table.pkmap_count, table.ptes, strict=True))
            if count or page is not None
        ],
        "threads": [
            {
                "name": thread.name,
                "situation": machine.situation(thread),
                "maps": [*map(machine.number, thread.maps)],
            }
            for thread in threads.threads.values()
            if thread.section or thread.maps
        ],
        "deadlocked": threads.deadlocked,
    }


def _drawn(machine: Machine, step: dict[str, Any]) -> Iterator[str]:
    table = machine.threads.table
    yield paint(f"{step['line']:>3}  {step['text']}", bold=True) + f"  → {step['did']}"
    marks = [
        slot_mark(count, page is not None) for count, page in zip(table.pkmap_count, table.ptes, strict=True)
    ]
    yield from slots_picture(marks, table.area.base, table.last_pkmap_nr)
    used = ", ".join(f"{slot['slot']}: page {slot['page']}" for slot in step["used"])
    yield f"      slots {used}" if used else "      no slot is mapped"
    for thread in step["threads"]:
        pages = ", ".join(map(str, thread["maps"]))
        yield f"      {thread['name']} {thread['situation']}" + (f"; has {pages}" if pages else "")
    yield f"      TLBs flushed: {step['flushes']}" + ("; deadlock" if step["deadlocked"] else "")


def _prompt(machine: Machine) -> int:
    """Ask for lines until "quit" or the end; a mistake costs a message, a BUG_ON the session."""
    _complete_words()
    emit(f"{machine.threads.table.area.slots} slots; help lists the words, quit leaves")
    number = 0
    while True:
        try:
            text = input(PROMPT)
        except EOFError:
            emit("")
            return 0
        number += 1
        if text.strip() in ("quit", "exit"):
            return 0
        if text.strip() == "help":
            emit(HELP)
            continue
        try:
            step = _step(machine, number, text)
        except UsageError as error:
            note(str(error))
            continue
        if step is not None:
            emit("\n".join(_drawn(machine, step)))


def _complete_words() -> None:
    """Let the tab key complete the words, where Python has readline."""
    try:
        import readline
    except ImportError:
        return
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


def complete(begun: str, number: int) -> str | None:
    """The ``number``-th word that goes on like what was begun."""
    words = sorted({*WORDS, *STARTABLE, "start", "help", "quit", *(f"{name}:" for name in NAMES)})
    found = [word + " " for word in words if word.startswith(begun)]
    return found[number] if number < len(found) else None
