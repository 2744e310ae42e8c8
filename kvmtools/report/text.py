"""A result for a person to read: what is wrong first, then what could not be judged, then one line of
summary.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from kvmtools.compare.finding import Finding, Outcome, Result, Status
from kvmtools.report.style import Paint, count, painter
from kvmtools.report.summary import verdict

LABEL = 10
"""Width of the column of labels."""

WIDTH = 120
"""Columns for prose; addresses and values are never broken."""

SPELLED = 10
"""Findings of one rule that are printed in full; the others are counted, and JSON has more."""


def to_text(result: Result, color: bool = False, verbose: bool = False) -> str:
    """The report as lines, with a heading, findings, skipped rules and a summary."""
    paint = painter(color)
    sections = (
        list(_heading(result, paint)),
        *(list(_discrepancy(outcome, paint)) for outcome in _with(result, Status.DISCREPANCY)),
        list(_skipped(_with(result, Status.SKIPPED), paint)),
        list(_agreeing(_with(result, Status.AGREE), paint)) if verbose else [],
        [verdict(result, paint)],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def finding_lines(finding: Finding) -> Iterator[str]:
    """One finding, a labelled line for each thing known about it."""
    addresses = {"virtual": finding.virtual, "physical": finding.physical, "pfn": finding.pfn}
    where = [finding.subject]
    where += [f"{label} {value:#x}" for label, value in addresses.items() if value is not None]
    where = list(dict.fromkeys(where))
    if finding.symbol:
        where.append(finding.symbol)
    rows = {
        "where": ", ".join(where),
        "expected": finding.expected,
        "observed": finding.observed,
        "raw": "" if finding.raw is None else f"{finding.raw:#x}",
        "next": finding.next,
    }
    return (f"{label:<{LABEL}}{text}" for label, text in rows.items() if text)


def _with(result: Result, status: Status) -> list[Outcome]:
    return [outcome for outcome in result.outcomes if outcome.status is status]


def _heading(result: Result, paint: Paint) -> Iterator[str]:
    for label, value in (*result.kernel.items(), *_live(result)):
        yield f"{paint('dim', f'{label:<{LABEL}}')}{value}"
    for registers in result.registers:
        label = paint("dim", f"{f'cpu {registers.cpu}':<{LABEL}}")
        yield label + "  ".join(f"{name} {value:#x}" for name, value in registers.items())


def _live(result: Result) -> Iterator[tuple[str, str | float]]:
    """What this run did to the guest; a unit in the name of a key stands behind the number for a person."""
    for key, value in result.live.items():
        label, _, unit = key.partition("_")
        yield label, f"{value} {unit}" if unit else value


def _discrepancy(outcome: Outcome, paint: Paint) -> Iterator[str]:
    found = count(outcome.total, "discrepancy", "discrepancies")
    yield f"{paint('bad', '✗ ' + outcome.rule)}: {found} in {outcome.examined:,} {outcome.unit}"
    yield from _wrapped("truth", outcome.truth)
    yield from (paint("dim", line) for line in _wrapped("source", outcome.source))
    for finding in outcome.findings[:SPELLED]:
        yield ""
        yield from (f"  {line}" for line in finding_lines(finding))
    if outcome.total > SPELLED:
        yield f"\n  and {outcome.total - SPELLED:,} more"
    if outcome.held:
        yield paint("warn", f"  held while the guest was stopped: {', '.join(outcome.held)}")


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label:<{LABEL}}",
        subsequent_indent=" " * (LABEL + 2),
        break_on_hyphens=False,
    )


def _skipped(outcomes: list[Outcome], paint: Paint) -> Iterator[str]:
    if not outcomes:
        return
    yield paint("dim", "skipped")
    width = max(len(outcome.rule) for outcome in outcomes)
    for outcome in outcomes:
        yield f"  {outcome.rule:<{width}}  {outcome.reason}"
        for finding in outcome.unsettled[:SPELLED]:
            yield f"    {finding.subject}: {finding.observed}, expected {finding.expected}"


def _agreeing(outcomes: list[Outcome], paint: Paint) -> Iterator[str]:
    width = max((len(outcome.rule) for outcome in outcomes), default=0)
    for outcome in outcomes:
        line = f"{paint('good', '✓')} {outcome.rule:<{width}}  {outcome.examined:,} {outcome.unit}"
        if outcome.consequences:
            causes = "explained by a finding above"
            line += f" ({count(len(outcome.consequences), 'discrepancy', 'discrepancies')} {causes})"
        yield line
