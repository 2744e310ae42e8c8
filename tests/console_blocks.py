"""The ``console`` blocks of a page: what is typed behind a ``$``, and what is shown for it.

What is shown is compared with what a command printed, on both streams: ``...`` stands for anything, a number for any
number (addresses and counts differ from boot to boot), with whatever unit of bytes, and blanks for any number of
blanks.  All else has to be there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

_BLOCK = re.compile(
    r"^```console\n(.*?)^```$|^\.\. code-block:: console\n\n((?: {3}.*\n|\n)+)", re.MULTILINE | re.DOTALL
)
_NUMBER = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{8,40}|\d[\d,.:]*)(?![a-z_])(?: (?:[KMG]i)?B\b)?")


@dataclass(frozen=True)
class Typed:
    """One command, and what the page shows for it."""

    command: str
    shown: str


def typed(page: str) -> Iterator[Typed]:
    """Every command of a page, in order."""
    for fenced, indented in _BLOCK.findall(page):
        block = fenced or dedent(indented)
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                more, _, shown = shown.partition("\n")
                command = f"{command[:-1].rstrip()} {more.lstrip('> ')}"
            yield Typed(command, shown)


def fits(shown: str, printed: str) -> bool:
    """Whether ``printed`` is what is ``shown``."""
    pieces, rest = [_plain(piece) for piece in shown.split("...")], _plain(printed)
    if len(pieces) == 1:
        return pieces[0] == rest
    if not rest.startswith(pieces[0]):
        return False
    rest = rest[len(pieces[0]) :]
    for piece in pieces[1:-1]:
        _, found, rest = rest.partition(piece) if piece else ("", "", rest)
        if piece and not found:
            return False
    return rest.endswith(pieces[-1])


def _plain(text: str) -> str:
    return " ".join(_NUMBER.sub("#", text).split())


def environment(run_dir: Path, **more: str) -> Mapping[str, str]:
    """A person's, with this program first on the path and guests of its own."""
    run_dir.chmod(0o700)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(run_dir), "COLUMNS": "120", **more}


def run(each: Typed, folder: Path, env: Mapping[str, str]) -> None:
    """Type it as a person does.

    :raises AssertionError: if something else is printed
    """
    done = subprocess.run(
        ["bash", "-c", each.command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert fits(each.shown, done.stdout), (
        f"$ {each.command}\nshown:\n{each.shown}\nprinted ({done.returncode}):\n{done.stdout}"
    )
