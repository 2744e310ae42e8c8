"""A result as JUnit XML: one test case per rule, so that a CI server shows which invariant broke."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from kvmtools.findings import Outcome, Result, Status
from kvmtools.report.heading import heading
from kvmtools.report.text import finding_lines
from kvmtools.show.printable import printable


def to_junit(result: Result) -> str:
    """A ``testsuites`` document with one suite."""
    suite = ElementTree.Element(
        "testsuite",
        name="kvmtools check",
        tests=str(len(result.outcomes)),
        failures=str(result.count(Status.DISCREPANCY)),
        skipped=str(result.count(Status.SKIPPED)),
        errors="0",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for label, value in heading(result).items():
        ElementTree.SubElement(properties, "property", name=label, value=value)
    suite.extend(_case(outcome) for outcome in result.outcomes)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _case(outcome: Outcome) -> ElementTree.Element:
    group, _, name = outcome.rule.partition(".")
    case = ElementTree.Element("testcase", classname=f"kvmtools.{group}", name=name)
    if outcome.status is Status.SKIPPED:
        ElementTree.SubElement(case, "skipped", message=printable(outcome.reason))
    if outcome.status is Status.DISCREPANCY:
        failure = ElementTree.SubElement(
            case, "failure", message=f"{outcome.total} found; truth: {outcome.truth}"
        )
        parts = ["\n".join(finding_lines(finding)) for finding in outcome.findings]
        if more := outcome.total - len(outcome.findings):
            parts.append(f"and {more:,} more, not listed")
        failure.text = "\n\n".join(parts)
    return case
