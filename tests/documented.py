"""The ways to a guest on docs/guests.md: tests type a section's lines as they stand there, where they work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console_blocks import Typed, environment, fits, typed

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guests.md"
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)


def sections() -> dict[str, list[Typed]]:
    """The commands of every section, in order."""
    return {title: list(typed(body)) for title, body in _SECTION.findall(PAGE.read_text(encoding="utf-8"))}


def run(line: str | Typed, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Type a line in ``folder``, with ``more`` in its environment.

    :raises AssertionError: if it is the page's, and does not print what is shown there
    """
    command = line.command if isinstance(line, Typed) else line
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**environment(folder), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if isinstance(line, Typed):
        said = done.stdout + done.stderr
        assert done.returncode == 0, (command, said)
        assert fits(line.shown, said), (command, line.shown, said)
    return done


@contextmanager
def started(line: str | Typed, folder: Path, *more: str, until: str) -> Iterator[None]:
    """Type a line that ends with ``&``; at the end of the ``with``, all that it started is ended.

    :param more: words behind the line's own: what the reader has and the line does not name
    :param until: it has to print this; the guest's console is among what it prints
    """
    command = line.command if isinstance(line, Typed) else line
    words = ["bash", "-c", " ".join((command.removesuffix("&"), *more))]
    env = {**environment(folder), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        words,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            printed = []
            for row in process.stdout:
                printed.append(row)
                if until in row:
                    break
            else:
                raise AssertionError(f"{command} ended: {''.join(printed)[-3000:]}")
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
