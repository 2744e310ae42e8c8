"""A kernel's configuration: `tinyconfig`, then our fragments from ``qemu/kernel/``, then a look at what stuck.

Kconfig drops silently what it cannot grant: an option whose dependency is missing, or that was renamed, is simply not
there afterwards.  So each line we asked for is compared with the outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

FRAGMENTS = ("boot", "memory", "observe")
# Options that only some versions have: merged like the others, not verified.
UNVERIFIED = "versions"
UNSET = "n"
# Options that later versions have under another name (6.9 put page-table isolation among the mitigations).
RENAMED = {"CONFIG_PAGE_TABLE_ISOLATION": "CONFIG_MITIGATION_PAGE_TABLE_ISOLATION"}
_LINE = re.compile(r"^(?:# (CONFIG_\w+) is not set|(CONFIG_\w+)=(.*))$")


def fragment_files(folder: Path, name: str) -> list[Path]:
    """The fragments of kernel ``name`` in the order of merging, from our ``qemu/kernel/``."""
    return [folder / f"{fragment}.config" for fragment in (*FRAGMENTS, UNVERIFIED, name)]


def parse(text: str) -> dict[str, str]:
    """``.config`` lines to option → value; ``# CONFIG_X is not set`` is the value ``"n"``, the last line wins."""
    options: dict[str, str] = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            options[match[1] or match[2]] = UNSET if match[1] else match[3]
    return options


def merge(base: str, fragments: Iterable[Path]) -> str:
    """The base configuration with the fragments' lines after it (for make olddefconfig the last word wins)."""
    return "\n".join([base, *(fragment.read_text() for fragment in fragments)])


def not_granted(fragments: Iterable[Path], outcome: str) -> list[str]:
    """The lines asked for that are not so in ``outcome``, each with what it became.

    An option that is absent from the outcome counts as not set; either name of a renamed one will do.
    """
    wanted: dict[str, str] = {}
    for fragment in fragments:
        if fragment.stem != UNVERIFIED:
            wanted |= parse(fragment.read_text())
    got = parse(outcome)
    return [
        f"{option}={value} (became {got.get(option, 'absent')})"
        for option, value in wanted.items()
        if value not in (got.get(option, UNSET), got.get(RENAMED.get(option, option), UNSET))
    ]
