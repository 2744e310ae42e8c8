"""The findings of a page: numbered, each with its places in the drawings, and for each place its findings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kvmtools.findings import Finding, Outcome, Status
from kvmtools.records import PAGE_SHIFT
from kvmtools.report.explanations import explanations
from kvmtools.report.source_places import SourcePlace, source_place
from kvmtools.report.text import finding_rows
from kvmtools.survey import Survey, ZoneFill

MOST = 20
"""Findings of one rule that a page spells out; the others are counted, and JSON has more."""

_SLOT = re.compile(r"slot (\d+)")
_TABLE = re.compile(r"table (0x[0-9a-f]+)")
_FIELD = re.compile(r"field (\w+)")


@dataclass(frozen=True, slots=True)
class PlaceLink:
    """From a finding to a drawing: an anchor, and what the script is to show there."""

    label: str
    anchor: str
    address: int | None = None
    pfn: int | None = None


@dataclass(frozen=True, slots=True)
class NumberedFinding:
    """A finding that the page spells out; its anchor is ``finding-NUMBER``."""

    number: int
    finding: Finding
    rows: dict[str, str]
    links: tuple[PlaceLink, ...]
    explains: tuple[Finding, ...]

    @property
    def title(self) -> str:
        """In a few words, for a place that leads here."""
        return f"finding {self.number}: {self.finding.rule}, {self.finding.subject}"


@dataclass(frozen=True, slots=True)
class ReportedRule:
    """A rule with findings, as many as are spelled out."""

    outcome: Outcome
    place: SourcePlace | None
    findings: tuple[NumberedFinding, ...]

    @property
    def more(self) -> int:
        """How many are not."""
        return self.outcome.total - len(self.findings)


@dataclass(frozen=True, slots=True)
class FindingPlaces:
    """Every numbered finding by its place, of whatever kind a drawing has."""

    all: list[NumberedFinding] = field(default_factory=list)

    def of_slot(self, number: int) -> list[NumberedFinding]:
        """Of a slot of pkmap."""
        return self.at(f"slot-{number}")

    def at(self, anchor: str) -> list[NumberedFinding]:
        """Of an anchor in a drawing."""
        return [each for each in self.all if any(link.anchor == anchor for link in each.links)]

    def addresses(self) -> list[tuple[int, NumberedFinding]]:
        """Those with a virtual address, with it."""
        return [(link.address, each) for each in self.all for link in each.links if link.address is not None]

    def pfns(self) -> list[tuple[int, NumberedFinding]]:
        """Those with a page, with its pfn."""
        return [(link.pfn, each) for each in self.all for link in each.links if link.pfn is not None]


def reported_rules(survey: Survey) -> tuple[list[ReportedRule], FindingPlaces]:
    """The rules that are broken, in order, and where their findings are."""
    result, explained = survey.result, explanations(survey.result)
    places, rules = FindingPlaces(), []
    for outcome in result.outcomes:
        if outcome.status is not Status.DISCREPANCY:
            continue
        first = len(places.all) + 1
        numbered = tuple(
            NumberedFinding(
                number,
                finding,
                finding_rows(finding),
                tuple(_links(finding, survey)),
                tuple(explained.get(finding, ())),
            )
            for number, finding in enumerate(outcome.findings[:MOST], first)
        )
        places.all.extend(numbered)
        rules.append(ReportedRule(outcome, source_place(outcome, result), numbered))
    return rules, places


def _links(finding: Finding, survey: Survey) -> list[PlaceLink]:
    """To every drawing that shows something of it."""
    links, space = [], survey.space
    slots = 0 if survey.pkmap is None else len(survey.pkmap.slots)
    boundaries = set() if space is None else {edge.name for edge in (*space.boundaries, *space.limits)}
    if (slot := _SLOT.fullmatch(finding.subject)) and int(slot[1]) < slots:
        links.append(PlaceLink(f"slot {slot[1]} of pkmap", f"slot-{slot[1]}"))
    if (edge := _FIELD.fullmatch(finding.subject)) and edge[1] in boundaries:
        links.append(PlaceLink(edge[1], f"boundary-{edge[1]}"))
    links += [
        PlaceLink(zone.title, zone_anchor(zone))
        for zone in survey.zones
        if finding.subject == zone.title or finding.subject.startswith(f"{zone.title} ")
    ]
    if finding.virtual is not None and space is not None and space.start <= finding.virtual < space.end:
        links.append(PlaceLink(f"address {finding.virtual:#x}", "space", address=finding.virtual))
    if (pfn := _page(finding)) is not None and survey.pages is not None and pfn < survey.pages.pages:
        links.append(PlaceLink(f"page {pfn:#x} in memory", "memory", pfn=pfn))
    return links


def _page(finding: Finding) -> int | None:
    """The page that it is about, else the one in which the wrong entry stands."""
    if finding.pfn is not None:
        return finding.pfn
    table = _TABLE.fullmatch(finding.subject)
    physical = int(table[1], 16) if table else finding.physical
    return None if physical is None else physical >> PAGE_SHIFT


def zone_anchor(zone: ZoneFill) -> str:
    """The name of a zone as an anchor."""
    return "zone-" + re.sub(r"[^A-Za-z0-9]+", "-", zone.label)
