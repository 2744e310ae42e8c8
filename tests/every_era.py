"""The eras in the order of their age, for tests that look at all of them."""

from __future__ import annotations

from kvmtools.model import eras
from kvmtools.model.eras import NAMES, Era

ALL = [eras.named(name) for name in NAMES]
SIX_ONE = eras.named("6.1")


def since(first: str, last: str = NAMES[-1]) -> list[str]:
    """Names of the eras from ``first`` to ``last``, both included."""
    return list(NAMES[NAMES.index(first) : NAMES.index(last) + 1])


def altered(name: str, **values: object) -> Era:
    """An era that no kernel had: that of ``name`` but for some of its columns."""
    return type("Altered", (Era,), values)(name)
