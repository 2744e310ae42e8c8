"""Page tables written down in a text file, with what a walk and an access must find in them.

The format is described in fixtures/paging/README.md and by ``kvmtools model walk --help``, which reads it too.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model.paging.access import LINUX, Control
from kvmtools.model.paging.forms import PagingForm, long_mode, non_pae, pae
from kvmtools.model.paging.physical import Physical
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Range

FORMS: dict[str, Callable[..., PagingForm]] = {"non-pae": non_pae, "pae": pae, "4-level": long_mode}
OPTIONS = {"nx": "nx", "pse": "pse", "maxphyaddr": "physical_bits", "gib": "gib_pages"}
"""A word of the ``form`` line and the argument of the form that it sets."""
HINT = "kvmtools model walk --help describes the lines"
UNITS = {"K": 10, "M": 20, "G": 30}

_HEX = "(0x[0-9a-fA-F]+)"
_VALUE = "on|off|0x[0-9a-fA-F]+|[0-9]+"
_SAID = rf"((?: [a-z]+=(?:{_VALUE}))*)"
_IS = " *= *"
_COMMENT = r"(?<!raises)\s+#.*"
"""``raises #PF`` is no comment."""
_WHO = rf"(supervisor|user) (read|write|fetch) {_HEX}"


class ExpectedLeaf(NamedTuple):
    """``VIRTUAL -> PHYSICAL SIZE RIGHTS``."""

    virtual: int
    physical: int
    size: int
    writable: bool
    user: bool
    executable: bool


class Stop(NamedTuple):
    """``VIRTUAL stops at LEVEL[SLOT]: REASON``."""

    virtual: int
    level: str
    slot: int
    reason: str


class Meets(NamedTuple):
    """Where an access ends: the byte, its memory type, whether the TLB keeps it when CR3 is loaded."""

    physical: int
    memory_type: str
    is_global: bool


class Raises(NamedTuple):
    """What an access raises, and at which entry."""

    exception: str
    error_code: int
    level: str
    slot: int


class ExpectedAccess(NamedTuple):
    """``WHO WHAT VIRTUAL meets …`` or ``raises …``: an access and its outcome."""

    user: bool
    what: str
    virtual: int
    control: Control
    outcome: Meets | Raises


class Then(NamedTuple):
    """``then TABLE[SLOT] = ENTRY``: what the attempts up to here have made of an entry."""

    table: int
    slot: int
    entry: int


class Vector(NamedTuple):
    """One file: tables in a little memory, and what must be found there."""

    name: str
    form: PagingForm
    form_name: str
    options: dict[str, int]
    cr3: int
    memory: Physical
    """RAM is only what a line sets an entry in."""
    leaves: tuple[ExpectedLeaf, ...]
    leaf_count: int | None
    stops: tuple[Stop, ...]
    script: tuple[ExpectedAccess | Then, ...]
    """In the order of the file: attempts leave marks."""
    control: Control
    """As the last ``control`` line leaves it."""


def parse(name: str, text: str) -> Vector:
    """Read a vector.

    :param name: what messages call it
    :raises UsageError: if a line means nothing or says again what another said, or there is no form or no CR3
    """
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip()
        try:
            if said and not said.startswith("#"):
                reader.read(re.sub(_COMMENT, "", said))
        except ValueError as error:
            raise UsageError(f"{name}:{number}: {error}: {said!r}", hint=HINT) from None
    return reader.vector(name)


class _Reader:
    """What the lines so far have said."""

    def __init__(self) -> None:
        self.form: tuple[str, dict[str, int], PagingForm] | None = None
        self.cr3: int | None = None
        self.entries: dict[int, bytes] = {}
        self.lengths: Counter[int] = Counter()
        self.leaves: list[ExpectedLeaf] = []
        self.leaf_count: int | None = None
        self.stops: list[Stop] = []
        self.script: list[ExpectedAccess | Then] = []
        self.control = LINUX

    def read(self, line: str) -> None:
        """:raises ValueError: if the line cannot be understood"""
        for pattern, take in _LINES:
            match = re.fullmatch(pattern, line)
            if match:
                return take(self, *match.groups())
        raise ValueError("no such line")

    def vector(self, name: str) -> Vector:
        """All of it.

        :raises UsageError: if something is missing that no walk can do without
        """
        if self.form is None or self.cr3 is None:
            raise UsageError(f"{name}: there must be a form and a cr3 line", hint=HINT)
        form_name, options, form = self.form
        pages = {address >> PAGE_SHIFT << PAGE_SHIFT for address in self.entries}
        memory = Physical(Range(page, page + PAGE_SIZE) for page in pages)
        for address, entry in self.entries.items():
            memory.write(address, entry)
        return Vector(
            name=name,
            form=form,
            form_name=form_name,
            options=options,
            cr3=self.cr3,
            memory=memory,
            leaves=tuple(self.leaves),
            leaf_count=self.leaf_count,
            stops=tuple(self.stops),
            script=tuple(self.script),
            control=self.control,
        )

    def take_form(self, name: str, said: str) -> None:
        make = FORMS[name]
        usual = {option.name: option.default for option in signature(make).parameters.values()}
        options = usual | _settings(said, OPTIONS)
        if set(options) != set(usual):
            raise ValueError("this form has no such option")
        if options["physical_bits"] not in range(32, 53):
            raise ValueError("no processor has so many address bits")
        if self.form is not None:
            raise ValueError("there is a form line already")
        self.form = name, options, make(**options)

    def take_cr3(self, cr3: str) -> None:
        if self.cr3 is not None:
            raise ValueError("there is a cr3 line already")
        self.cr3 = int(cr3, 16)
        self._check_root()

    def take_entry(self, table: str, first: str, last: str | None, entry: str) -> None:
        if self.form is None:
            raise ValueError("the form comes before the first entry")
        form = self.form[2]
        size, start, value = form.entry_size, int(table, 16), int(entry, 16)
        slots = range(int(first), int(last or first) + 1)
        if not slots or slots[-1] >= PAGE_SIZE // size or start % size:
            raise ValueError("no table has such entries")
        if value >> 8 * size:
            raise ValueError(f"an entry has {size} bytes")
        for index in slots:
            address = start + index * size
            if address in self.entries:
                raise ValueError(f"there is a line for entry {index} already")
            self.entries[address] = struct.pack(f"<{form.entry}", value)
        self.lengths[start] = max(slots.stop, self.lengths[start])
        self._check_root()

    def _check_root(self) -> None:
        """A PDPT has four entries only; whichever of it and CR3 comes later shows that there are more."""
        if self.form is not None and self.cr3 is not None:
            form = self.form[2]
            if self.lengths[self.cr3 & form.root] > 1 << form.levels[0].bits:
                raise ValueError(f"the table of cr3 has {1 << form.levels[0].bits} entries")

    def take_leaf(
        self, virtual: str, physical: str, count: str, unit: str, writable: str, user: str, executable: str
    ) -> None:
        rights = (right != "-" for right in (writable, user, executable))
        self.leaves.append(
            ExpectedLeaf(int(virtual, 16), int(physical, 16), int(count) << UNITS[unit], *rights)
        )

    def take_stop(self, virtual: str, level: str, index: str, reason: str) -> None:
        self.stops.append(Stop(int(virtual, 16), level, int(index), reason))

    def take_leaves(self, count: str) -> None:
        self.leaf_count = int(count)

    def take_control(self, said: str) -> None:
        self.control = Control(**_settings(said, {name: name for name in Control._fields}))

    def take_meets(
        self, who: str, what: str, virtual: str, physical: str, memory_type: str, kept: str | None
    ) -> None:
        self._attempt(who, what, virtual, Meets(int(physical, 16), memory_type, kept is not None))

    def take_raises(
        self, who: str, what: str, virtual: str, exception: str, code: str, level: str, index: str
    ) -> None:
        self._attempt(who, what, virtual, Raises(exception, int(code, 16), level, int(index)))

    def take_then(self, table: str, index: str, entry: str) -> None:
        self.script.append(Then(int(table, 16), int(index), int(entry, 16)))

    def _attempt(self, who: str, what: str, virtual: str, outcome: Meets | Raises) -> None:
        self.script.append(ExpectedAccess(who == "user", what, int(virtual, 16), self.control, outcome))


_LINES: tuple[tuple[str, Callable[..., None]], ...] = (
    (rf"form ({'|'.join(FORMS)}){_SAID}", _Reader.take_form),
    (rf"cr3 {_HEX}", _Reader.take_cr3),
    (rf"{_HEX}\[([0-9]+)(?:\.\.([0-9]+))?\]{_IS}{_HEX}", _Reader.take_entry),
    (rf"{_HEX} -> {_HEX} ([0-9]+)([KMG]) ([-w])([-u])([-x])", _Reader.take_leaf),
    (
        rf"{_HEX} stops at (\w+)\[([0-9]+)\]: (not present|reserved|no RAM|no such address)",
        _Reader.take_stop,
    ),
    (r"leaves ([0-9]+)", _Reader.take_leaves),
    (rf"control{_SAID}", _Reader.take_control),
    (rf"{_WHO} meets {_HEX} (\S+)( global)?", _Reader.take_meets),
    (rf"{_WHO} raises (#PF|#GP) {_HEX} at (\w+)\[([0-9]+)\]", _Reader.take_raises),
    (rf"then {_HEX}\[([0-9]+)\]{_IS}{_HEX}", _Reader.take_then),
)


def _settings(said: str, names: dict[str, str]) -> dict[str, Any]:
    """``word=value`` pairs, by the names that the words stand for."""
    settings: dict[str, Any] = {}
    for pair in said.split():
        word, _, value = pair.partition("=")
        if word not in names:
            raise ValueError(f"{word} is not one of {', '.join(names)}")
        switch = {"on": True, "off": False}
        settings[names[word]] = switch[value] if value in switch else int(value, 16 if "x" in value else 10)
    return settings
