"""``survivors.txt``: the mutants that no test can kill because they are not mistakes, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mutants.operators import Mutant

LIST = Path(__file__).with_name("survivors.txt")


@dataclass(frozen=True, slots=True)
class Survivor:
    """One entry; ``name`` is :attr:`Mutant.name`."""

    name: tuple[str, str, str, str]
    because: str


class BadList(ValueError):
    """A line of the list that says nothing."""


def read(text: str) -> list[Survivor]:
    """Entries of four parts: ``file  place``, ``- before``, ``+ after``, ``because: reason`` (of any length).

    :raises BadList: if an entry lacks one of them
    """
    survivors = []
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line.strip():
            blocks[-1].append(line.strip())
        elif blocks[-1]:
            blocks.append([])
    for block in filter(None, blocks):
        head, *rest = block
        file, _, where = head.partition("  ")
        if not (
            where
            and len(rest) >= 3
            and rest[0].startswith("- ")
            and rest[1].startswith("+ ")
            and rest[2].startswith("because: ")
        ):
            raise BadList(f"survivors.txt: '{head}' is not followed by '- ', '+ ' and 'because: ' lines")
        reason = " ".join(rest[2:]).removeprefix("because: ")
        survivors.append(Survivor((file, where, rest[0][2:], rest[1][2:]), reason))
    return survivors


def written(mutant: Mutant) -> str:
    """A mutant as the list has it, without the reason."""
    file, where, before, after = mutant.name
    return f"{file}  {where}\n    - {before}\n    + {after}"


def complaints(
    listed: Iterable[Survivor], survived: Iterable[Mutant], killed: Iterable[Mutant], files: Iterable[str]
) -> tuple[list[Mutant], list[str]]:
    """What the list and the trial do not agree about, in the files that were tried.

    :returns: survivors that are not listed, and what is wrong with entries of the list
    """
    reasons = {survivor.name: survivor.because for survivor in listed}
    alive = {mutant.name: mutant for mutant in survived}
    dead = {mutant.name for mutant in killed}
    tried = set(files)
    wrong = []
    for name in reasons:
        file, where, before, after = name
        if file not in tried or name in alive:
            continue
        what = "is killed now" if name in dead else "is no mutant any more"
        wrong.append(f"listed, but {what}: {file}  {where}: {before}  ->  {after}")
    return [mutant for name, mutant in alive.items() if name not in reasons], wrong
