"""Who was looked at, and how, as label and text: the head of a report for a person, the properties of JUnit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kvmtools.findings import Result
from kvmtools.show.printable import printable

_KERNEL: dict[str, Callable[[dict[str, Any]], str]] = {
    "kernel": lambda kernel: str(kernel["release"]),
    "state": lambda kernel: str(kernel["state"]),
    "build id": lambda kernel: str(kernel["build_id"]),
    "era": lambda kernel: str(kernel["era"]),
    "paging": lambda kernel: ", ".join(kernel["paging"]),
    "slide": lambda kernel: str(kernel["slide"]),
    "memory": lambda kernel: (
        f"{kernel['ram_pages']:,} pages of RAM, max_low_pfn {kernel['max_low_pfn']}, max_pfn {kernel['max_pfn']}"
    ),
}


def heading(result: Result) -> dict[str, str]:
    """Label and text, in order; what a damaged guest does not show is left out."""
    rows = {
        **dict(_kernel(result.kernel)),
        **({"core": result.core} if result.core else {}),
        **dict(_live(result)),
    }
    return {label: printable(text) for label, text in rows.items()}


def _kernel(kernel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for label, text in _KERNEL.items():
        try:
            yield label, text(kernel)
        except KeyError:
            continue


def _live(result: Result) -> Iterator[tuple[str, str]]:
    """What this run did to the guest; a unit in the name of a key stands behind the number for a person."""
    for key, value in result.live.items():
        if key == "panic" and str(value) in result.kernel.get("state", ""):
            continue  # it is said there
        label, _, unit = key.partition("_")
        yield label, f"{value} {unit}" if unit else str(value)
