"""A result for a person to read: what is wrong first, then what could not be judged, then one line of
summary.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.report.explanations import explanations
from kvmtools.report.heading import heading
from kvmtools.report.summary import verdict
from kvmtools.show.printable import printable
from kvmtools.show.style import count, examined, paint

LABEL = 10
"""Width of the column of labels."""

WIDTH = 120
"""Columns for prose; addresses and values are never broken."""

SPELLED = 10
"""Findings of one rule that are printed in full; the others are counted, and JSON has more."""


def to_text(result: Result, color: bool = False, verbose: bool = False) -> str:
    """The report as lines, with a heading, findings, skipped rules and a summary."""
    explained = explanations(result)
    sections = (
        list(_heading(result, color)),
        *(list(_discrepancy(outcome, explained, color)) for outcome in _with(result, Status.DISCREPANCY)),
        list(_skipped(_with(result, Status.SKIPPED), color)),
        list(_agreeing(_with(result, Status.AGREE), color)) if verbose else [],
        [verdict(result, color)],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def finding_lines(finding: Finding) -> Iterator[str]:
    """One finding, a labelled line for each thing known about it."""
    return (f"{label:<{LABEL}}{text}" for label, text in finding_rows(finding).items())


def finding_rows(finding: Finding) -> dict[str, str]:
    """The same as labels and texts, printable."""
    addresses = {
        finding.virtual_is: finding.virtual,
        finding.physical_is: finding.physical,
        "pfn": finding.pfn,
    }
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
    return {label: printable(text) for label, text in rows.items() if text}


def _with(result: Result, status: Status) -> list[Outcome]:
    return [outcome for outcome in result.outcomes if outcome.status is status]


def _heading(result: Result, color: bool) -> Iterator[str]:
    rows = heading(result)
    for registers in result.registers:
        rows[f"cpu {registers.cpu}"] = "  ".join(f"{name} {value:#x}" for name, value in registers.items())
    width = max([LABEL, *(len(label) + 2 for label in rows)])
    for label, value in rows.items():
        yield f"{paint(f'{label:<{width}}', dim=True, color=color)}{value}"


def _discrepancy(outcome: Outcome, explained: dict[Finding, list[Finding]], color: bool) -> Iterator[str]:
    found = count(outcome.total, "discrepancy", "discrepancies")
    rule = paint(f"✗ {outcome.rule}", fg="red", bold=True, color=color)
    yield f"{rule}: {found} in {examined(outcome.examined, outcome.unit)}"
    yield from _wrapped("truth", outcome.truth)
    yield from (paint(line, dim=True, color=color) for line in _wrapped("source", outcome.source))
    for finding in outcome.findings[:SPELLED]:
        yield ""
        yield from (f"  {line}" for line in finding_lines(finding))
        yield from (
            paint(f"  {line}", dim=True, color=color) for line in _explains(explained.get(finding, []))
        )
    if outcome.total > SPELLED:
        yield f"\n  and {outcome.total - SPELLED:,} more"
    if outcome.held:
        yield paint(
            f"  held while the guest was stopped: {printable(', '.join(outcome.held))}",
            fg="yellow",
            color=color,
        )


def _explains(consequences: list[Finding]) -> Iterator[str]:
    """A line for each discrepancy that a finding explains."""
    for number, one in enumerate(consequences[:SPELLED]):
        yield printable(f"{'' if number else 'explains':<{LABEL}}{one.rule}: {one.subject}")
    if len(consequences) > SPELLED:
        yield f"{'':<{LABEL}}and {len(consequences) - SPELLED:,} more"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label:<{LABEL}}",
        subsequent_indent=" " * (LABEL + 2),
        break_on_hyphens=False,
    )


def _skipped(outcomes: list[Outcome], color: bool) -> Iterator[str]:
    if not outcomes:
        return
    yield paint("skipped", dim=True, color=color)
    width = max(len(outcome.rule) for outcome in outcomes)
    for outcome in outcomes:
        yield printable(f"  {outcome.rule:<{width}}  {outcome.reason}")
        for finding in outcome.unsettled[:SPELLED]:
            yield printable(f"    {finding.subject}: {finding.observed}, expected {finding.expected}")


def _agreeing(outcomes: list[Outcome], color: bool) -> Iterator[str]:
    width = max((len(outcome.rule) for outcome in outcomes), default=0)
    for outcome in outcomes:
        tick = paint("✓", fg="green", color=color)
        line = f"{tick} {outcome.rule:<{width}}  {examined(outcome.examined, outcome.unit)}"
        if outcome.consequences:
            causes = "explained by a finding above"
            line += f" ({count(outcome.consequences_total, 'discrepancy', 'discrepancies')} {causes})"
        yield line
