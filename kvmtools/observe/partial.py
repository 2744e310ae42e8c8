"""Records of which a guest may lack a part: the rest is there, and who asks for that part is told why it is not.

A kernel without one symbol, a pointer that leads nowhere, or a kernel that has not come to it yet must not cost more
than what needs that one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from kvmtools.errors import MemoryFault, Unobserved
from kvmtools.observe.broken import Broken, add_broken, reading

T = TypeVar("T")


class Partial:
    """A record whose fields may hold, in place of a value, the reason why there is none: who asks meets it."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if isinstance(value, Unobserved):
            raise value.with_traceback(None)
        return value


def known(read: Callable[[], T], structure: str, broken: list[Broken] | None = None) -> T:
    """What ``read`` returns, or why there is nothing: for a field of a :class:`Partial`.

    :param structure: what is being read, for a person
    :param broken: takes what cannot be read
    """
    try:
        with reading(structure):
            return read()
    except Unobserved as reason:
        if broken is not None and isinstance(reason, MemoryFault):
            add_broken(broken, structure, reason)
        return cast(T, reason)


R = TypeVar("R", bound=Partial)


def exchanged(record: R, **changes: Any) -> R:
    """``dataclasses.replace`` for a record that may lack some of its parts: these are not asked for."""
    assert is_dataclass(record)
    assert changes.keys() <= {field.name for field in fields(record)}
    held, other = vars(record), object.__new__(type(record))
    for field in fields(record):
        object.__setattr__(other, field.name, changes.get(field.name, held[field.name]))
    return other


class Lookup(dict[str, int]):
    """Numbers by name; who asks for a name that is not there meets the reason.

    :param ask: where the numbers come from; it raises why there is none
    """

    def __init__(self, ask: Callable[[str], int], names: Iterable[str]) -> None:
        super().__init__()
        self._ask = ask
        for name in names:
            with suppress(Unobserved):
                self[name] = ask(name)

    def __missing__(self, name: str) -> int:
        return self._ask(name)
