"""Which finding explains which: under each finding, what it makes look wrong elsewhere."""

from __future__ import annotations

from collections import defaultdict

from kvmtools.findings import Finding, Result


def explanations(result: Result) -> dict[Finding, list[Finding]]:
    """Every finding that is shown, with the consequences that a person finds under it.

    A consequence of a consequence stands with the finding that they share a subject with; each stands once.
    """
    by_key: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in result.findings:
        for key in finding.keys:
            by_key[key].append(finding)
    found: defaultdict[Finding, list[Finding]] = defaultdict(list)
    for outcome in result.outcomes:
        for consequence in outcome.consequences:
            sharing = [cause for key in sorted(consequence.keys) for cause in by_key.get(key, ())]
            named = [cause for cause in sharing if cause.rule in outcome.defers_to]
            for cause in (named or sharing)[:1]:
                found[cause].append(consequence)
    return dict(found)
