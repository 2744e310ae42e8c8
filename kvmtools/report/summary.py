"""The verdict in one line, and several verdicts in one line each."""

from __future__ import annotations

from collections.abc import Mapping

from kvmtools.findings import Result
from kvmtools.show.style import paint

_MARKS = {0: ("green", "✓"), 1: ("red", "✗"), 5: ("yellow", "?")}


def verdict(result: Result, color: bool) -> str:
    """The verdict with a mark before it, its first words in colour."""
    fg, mark = _MARKS[result.exit_code]
    words, separator, counts = result.summary.partition(";")
    return paint(f"{mark} {words}", fg=fg, bold=fg == "red", color=color) + separator + counts


def summary(results: Mapping[str, Result], *, color: bool = False) -> str:
    """One line per guest."""
    width = max((len(name) for name in results), default=0)
    return "\n".join(
        f"{paint(f'{name:<{width}}', bold=True, color=color)}  {verdict(result, color)}"
        for name, result in results.items()
    )
