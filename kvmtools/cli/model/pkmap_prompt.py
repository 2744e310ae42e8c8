"""The prompt of ``kvmtools model pkmap``: lines that a person types, and the tab key."""

from __future__ import annotations

from collections.abc import Iterable

from kvmtools.cli.model.pkmap_script import HELP, NAMES, STARTABLE, WORDS, ScriptedPkmap, code
from kvmtools.cli.model.pkmap_steps import drawn, step
from kvmtools.cli.output import emit, note
from kvmtools.errors import UsageError
from kvmtools.show.drawing import LEGEND

PROMPT = "pkmap> "
HELPS = ("help", "h", "?")
LEAVES = ("quit", "exit", "q")
THREADS = tuple(f"{name}:" for name in NAMES)


def prompt(machine: ScriptedPkmap) -> None:
    """Ask for lines until "quit" or the end; a mistake costs a message, Ctrl-C the line, a BUG_ON the session.

    :raises KernelBug: if a BUG_ON holds
    """
    _complete_words()
    emit(f"{machine.threads.table.area.slots} slots; help lists the words, quit leaves")
    number = 1
    while True:
        try:
            text = input(PROMPT)
        except KeyboardInterrupt:
            emit("")
            continue
        except EOFError:
            emit("")
            return
        word = code(text).lower()
        if word in LEAVES:
            return
        if word in HELPS:
            emit(f"{HELP}\n{LEGEND}")
            continue
        try:
            done = step(machine, number, text)
        except UsageError as error:
            note(error)
            continue
        if done is not None:
            emit("\n".join(drawn(machine, done)))
            number += 1


def _complete_words() -> None:
    """Let the tab key complete the words, where Python has readline."""
    try:
        import readline
    except ImportError:
        return
    readline.set_completer(
        lambda begun, number: complete(readline.get_line_buffer()[: readline.get_begidx()], begun, number)
    )
    readline.parse_and_bind("tab: complete")


def complete(before: str, begun: str, number: int) -> str | None:
    """The ``number``-th word that may follow what stands before it, and goes on like what was begun."""
    found = [word + " " for word in sorted(_fitting(before)) if word.startswith(begun)]
    return found[number] if number < len(found) else None


def _fitting(before: str) -> Iterable[str]:
    words = code(before).replace(":", ": ").split()
    if not words:
        return (*WORDS, "start", "help", "quit", "exit", *THREADS)
    if words[-1] == "start":
        return STARTABLE
    return (*WORDS, "start") if words[-1] in THREADS else ()
