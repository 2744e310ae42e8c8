"""Questions that only DWARF and the symbol table can answer, asked through drgn.

This is the slow half of :mod:`kvmtools.observe.symbols.vmlinux`, which remembers the answers; importing this module
imports drgn.  Every question returns ``None`` for *there is no such thing*: kernels differ in what they have,
and it is presence that is tested, never a version.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import drgn

from kvmtools.errors import SymbolsError
from kvmtools.observe.symbols.debug_file import I386
from kvmtools.observe.symbols.facts_cache import Answer


class DebugInfo:
    """The types and symbols of one kernel, at its link addresses.

    :param vmlinux: as it is named in messages
    :param files: its file, or its image and the file that debugs that (:func:`~.debug_file.find_debug_file`)
    :raises SymbolsError: if drgn finds no DWARF in them, or not all that it refers to
    """

    def __init__(self, vmlinux: Path, files: tuple[Path, ...]) -> None:
        self._vmlinux = vmlinux
        self._program = drgn.Program(I386)
        # An "extra" module lies at the file's own addresses and asks nothing of a running program.
        module = self._program.extra_module(vmlinux.name, create=True)
        with self._read_by_drgn():
            for file in files:
                module.try_file(file, force=True)
        if module.debug_file_status is not drgn.ModuleFileStatus.HAVE:
            raise SymbolsError(f"drgn finds no debugging information in {vmlinux}")
        with _split_files_missed() as missed, self._read_by_drgn(), suppress(LookupError):
            self._program.type("struct page")  # any name: at the first one drgn makes its index of all files
        if missed:
            raise SymbolsError(
                f"the types of {vmlinux} lie in .dwo files (CONFIG_DEBUG_INFO_SPLIT), and drgn misses {len(missed)} "
                f"of them: {missed[0]}" + ", ..." * (len(missed) > 1),
                hint="put them back where they were built, or build the kernel with CONFIG_DEBUG_INFO_SPLIT=n",
            )

    def answer(self, question: str, *about: str) -> Answer:
        """The answer to a question, which is one of the methods below by its name.

        :raises SymbolsError: if the DWARF is damaged where the answer stands
        """
        with self._read_by_drgn():
            found: Answer = getattr(self, question)(*about)
        return found

    @contextmanager
    def _read_by_drgn(self) -> Iterator[None]:
        """Say which file it is that cannot be read; drgn reports damage as a bare :class:`Exception`."""
        try:
            yield
        except Exception as error:
            raise SymbolsError(
                f"drgn cannot read {self._vmlinux}: {error}",
                hint="is the file damaged? build or install it again",
            ) from error

    def symbol(self, name: str) -> int | None:
        """Address of the symbol ``name``; of several (file-static) ones, an object's rather than a
        function's.
        """
        found = self._program.symbols(name)
        objects = [symbol for symbol in found if symbol.kind is drgn.SymbolKind.OBJECT]
        best = objects or found
        return best[0].address if best else None

    def symbol_like(self, variable: str) -> int | None:
        """Address of the one static variable of a function, as the compiler names it: gcc ``variable.N``, clang
        ``function.variable``.
        """
        name = re.compile(rf"(?:\w+\.)?{re.escape(variable)}(?:\.\d+)?")
        matching = [
            symbol.address
            for symbol in self._program.symbols()
            if name.fullmatch(symbol.name) and symbol.name != variable
        ]
        return matching[0] if len(matching) == 1 else None

    def sizeof(self, type_name: str, member: str = "") -> int | None:
        """Size in bytes of a type, or of one of its members."""
        type_ = self._type(type_name, member)
        if type_ is None:
            return None
        try:
            return int(drgn.sizeof(type_))
        except TypeError:  # an incomplete type: declared, never defined in this configuration
            return None

    def offset(self, type_name: str, member: str) -> int | None:
        """Offset in bytes of ``member``, which may be dotted, indexed, or lie in an anonymous union."""
        type_ = self._type(type_name)
        if type_ is None:
            return None
        try:
            return int(drgn.offsetof(type_, member))
        except (LookupError, TypeError):
            return None

    def array_length(self, type_name: str, member: str = "") -> int | None:
        """Elements of the array ``member``, or of the type itself; ``None`` if it is not an array."""
        type_ = self._type(type_name, member)
        if type_ is None or type_.kind is not drgn.TypeKind.ARRAY:
            return None
        return None if type_.length is None else int(type_.length)

    def enumerators(self, tag: str) -> dict[str, int] | None:
        """Names and values of ``enum tag``."""
        type_ = self._type(f"enum {tag}")
        if type_ is None or type_.enumerators is None:
            return None
        return {enumerator.name: enumerator.value for enumerator in type_.enumerators}

    def constant(self, name: str) -> int | None:
        """Value of one enumerator, whichever enumeration (named or not) it belongs to."""
        try:
            value = self._program.constant(name).value_()
        except LookupError:
            return None
        return int(value)

    def _type(self, name: str, member: str = "") -> drgn.Type | None:
        """The type called ``name``, or of the variable in ``typeof(variable)``; typedefs and qualifiers
        removed.
        """
        try:
            if name.startswith("typeof("):
                type_ = self._program.variable(name[len("typeof(") : -1]).type_
            else:
                type_ = self._program.type(name)
            if member:
                type_ = self._at(type_, member)
        except (LookupError, SyntaxError, TypeError):
            return None
        return type_.unaliased()

    def _at(self, type_: drgn.Type, member: str) -> drgn.Type:
        """The type of a member, dotted or indexed as in C; asked of a typed object that lies nowhere in
        particular.
        """
        nowhere = drgn.Object(self._program, type_, address=0)
        return nowhere.subobject_(member).type_


@contextmanager
def _split_files_missed() -> Iterator[list[str]]:
    """Names of the ``.dwo`` files that drgn misses behind the ``with``; it logs them, a line each, and goes on."""
    missed: list[str] = []
    told, logger = re.compile(r"split DWARF file ?(.*?) ?(?:not found)?$"), logging.getLogger("drgn")
    level, shown = logger.level, logger.getEffectiveLevel()

    def note(record: logging.LogRecord) -> bool:
        found = told.search(record.getMessage())
        if found and found[1] not in missed:
            missed.append(found[1])
        return found is None and record.levelno >= shown

    logger.addFilter(note)
    logger.setLevel(min(shown, logging.WARNING))
    try:
        yield missed
    finally:
        logger.setLevel(level)
        logger.removeFilter(note)
