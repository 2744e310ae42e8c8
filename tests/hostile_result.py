"""A verdict in which a guest has had its say wherever it may."""

from __future__ import annotations

from kvmtools.findings import Finding, Outcome, Result, Status


def result(text: str) -> Result:
    """A result in which everything that the guest may have a say in is ``text``."""
    found = Finding(text, text, text, rule="a.b", symbol=text, next=text, touches=("slot 1",))
    parts = {"truth": "truth", "source": "source", "unit": "things", "examined": 1}
    return Result(
        (
            Outcome(rule="a.b", status=Status.DISCREPANCY, findings=(found,), total=1, held=(text,), **parts),
            Outcome(rule="a.c", status=Status.SKIPPED, reason=text, unsettled=(found,), **parts),
            Outcome(rule="a.d", status=Status.AGREE, consequences=(found,), consequences_total=1, **parts),
        ),
        {"release": text, "build_id": text, "era": text, "paging": [text], "slide": text},
        live={"consistency": text},
        core=text,
    )
