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
# A kernel's own fragments: those of the kernel that it is a variant of, then what is different.
OWN = {"pae": ("pae",), "nopae": ("nopae",), "numa": ("pae", "numa"), "sparse": ("nopae", "sparse")}
# Options that other versions have under another name: 6.9 put page-table isolation among the mitigations, 6.15 left
# highmem one size, and before 5.12 the compiler alone chose the version of DWARF.
RENAMED = {
    "CONFIG_PAGE_TABLE_ISOLATION": "CONFIG_MITIGATION_PAGE_TABLE_ISOLATION",
    "CONFIG_HIGHMEM64G": "CONFIG_HIGHMEM4G",
    "CONFIG_DEBUG_INFO_DWARF5": "CONFIG_DEBUG_INFO",
}
# Options that later versions have no more: page tables in highmem, a preemption model, SLUB's lists per CPU.
GONE = frozenset(("CONFIG_HIGHPTE", "CONFIG_PREEMPT_VOLUNTARY", "CONFIG_SLUB_CPU_PARTIAL"))
_LINE = re.compile(r"^(?:# (CONFIG_\w+) is not set|(CONFIG_\w+)=(.*))$")


def fragment_files(folder: Path, name: str) -> list[Path]:
    """The fragments of kernel ``name`` in the order of merging, from our ``qemu/kernel/``."""
    return [folder / f"{fragment}.config" for fragment in (*FRAGMENTS, UNVERIFIED, *OWN[name])]


def parse(text: str) -> dict[str, str]:
    """``.config`` lines to option → value; ``# CONFIG_X is not set`` is the value ``"n"``, the last line wins."""
    options: dict[str, str] = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            options[match[1] or match[2]] = UNSET if match[1] else match[3]
    return options


def merge(base: str, fragments: Iterable[Path]) -> str:
    """The base configuration with the fragments' lines after it (for make olddefconfig the last word wins).

    An option's other name comes before them, so that it yields where the version has both.
    """
    asked = [fragment.read_text() for fragment in fragments]
    values = parse("\n".join(asked))
    others = [f"{other}={values[option]}" for option, other in RENAMED.items() if option in values]
    return "\n".join([base, *others, *asked])


def not_granted(fragments: Iterable[Path], outcome: str) -> list[str]:
    """The lines asked for that are not so in ``outcome``, each with what it became.

    An option that is absent from the outcome counts as not set; either name of a renamed one will do, and one that is
    gone may be absent.
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
        and (option in got or option not in GONE)
    ]
