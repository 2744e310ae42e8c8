"""The prompt of ``kvmtools model pkmap``: lines that a person types, and the tab key."""

from __future__ import annotations

from kvmtools.cli.model.pkmap_script import HELP, NAMES, STARTABLE, WORDS, Machine
from kvmtools.cli.model.pkmap_steps import drawn, step
from kvmtools.cli.output import emit, note
from kvmtools.errors import UsageError

PROMPT = "pkmap> "
HELPS = ("help", "h", "?")
LEAVES = ("quit", "exit", "q")


def prompt(machine: Machine) -> None:
    """Ask for lines until "quit" or the end; a mistake costs a message, a BUG_ON the session.

    :raises KernelBug: if a BUG_ON holds
    """
    _complete_words()
    emit(f"{machine.threads.table.area.slots} slots; help lists the words, quit leaves")
    number = 0
    while True:
        try:
            text = input(PROMPT)
        except EOFError:
            emit("")
            return
        number += 1
        word = text.partition("#")[0].strip().lower()
        if word in LEAVES:
            return
        if word in HELPS:
            emit(HELP)
            continue
        try:
            done = step(machine, number, text)
        except UsageError as error:
            note(str(error))
            continue
        if done is not None:
            emit("\n".join(drawn(machine, done)))


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
    words = sorted({*WORDS, *STARTABLE, "start", "help", "quit", "exit", *(f"{name}:" for name in NAMES)})
    found = [word + " " for word in words if word.startswith(begun)]
    return found[number] if number < len(found) else None
