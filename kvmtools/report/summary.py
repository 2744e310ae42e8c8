"""The verdict in one line, and several verdicts in one line each."""

from __future__ import annotations

from collections.abc import Mapping

from kvmtools.findings import Result, Status
from kvmtools.show.style import count, paint

_WORDS = {
    0: ("green", "✓ agrees with the model"),
    1: ("red", "✗ differs from the model"),
    5: ("yellow", "? inconclusive"),
}


def verdict(result: Result, color: bool) -> str:
    """How many rules came out how, and what was examined."""
    fg, words = _WORDS[result.exit_code]
    counts = [f"{count(len(result.outcomes), 'rule')}: {result.count(Status.AGREE)} agree"]
    if broken := result.count(Status.DISCREPANCY):
        found = count(result.total, "discrepancy", "discrepancies")
        if explained := result.consequences_total:
            found += f", which {'explains' if result.total == 1 else 'explain'} {explained:,} more"
        counts.append(f"{broken} broken ({found})")
    if skipped := result.count(Status.SKIPPED):
        counts.append(f"{skipped} skipped")
    line = f"{paint(words, fg=fg, bold=fg == 'red', color=color)}; {', '.join(counts)}"
    if result.samples > 1:
        line += f"; {count(result.samples, 'sample')}"
    if result.transients:
        line += f", {count(result.transients, 'transient')} gone on a second look"
    return line


def summary(results: Mapping[str, Result], *, color: bool = False) -> str:
    """One line per guest."""
    width = max((len(name) for name in results), default=0)
    return "\n".join(
        f"{paint(f'{name:<{width}}', bold=True, color=color)}  {verdict(result, color)}"
        for name, result in results.items()
    )
