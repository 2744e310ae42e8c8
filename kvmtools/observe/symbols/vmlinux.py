"""What the vmlinux says about itself: types, offsets, enumerators and symbols, each asked of drgn once in its
life.

Answers are kept for the next run (:mod:`kvmtools.observe.symbols.facts_cache`), negative ones too, so that a warm
command neither imports drgn nor opens the DWARF; but only once the file is known to be the guest's.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvmtools.errors import Absent, SymbolsError
from kvmtools.observe.architecture import Architecture, architecture_of
from kvmtools.observe.symbols import facts_cache
from kvmtools.observe.symbols.facts_cache import Answer, Answers
from kvmtools.observe.symbols.vmlinux_file import Identity, VmlinuxFile, read_vmlinux, symbols_in

if TYPE_CHECKING:
    from kvmtools.observe.symbols.debuginfo import DebugInfo

SCHEMA = "kvmtools-facts/1"

#: What a question is about, in C's words; anything else is about a type or a member of one.
_THINGS = {
    "symbol": "symbol {}",
    "symbol_like": "static variable {}",
    "enumerators": "enum {}",
    "constant": "enumerator {}",
    "array_length": "array {}",
}


class Vmlinux:
    """Types, offsets, enumerators and symbols (at link addresses, no KASLR slide) of one vmlinux.

    Type names are written as in C (``"struct page"``, ``"pte_t"``); ``"typeof(variable)"`` is the type of a
    global or file-static variable.  Members may be dotted (``"_refcount.counter"``), indexed
    (``"free_area[3]"``), or lie in anonymous structures and unions.
    """

    def __init__(
        self,
        build_id: str,
        answers: Answers,
        file: VmlinuxFile | None = None,
        sought: tuple[Identity, Path | None] | None = None,
        symbols: Mapping[str, int] | None = None,
    ) -> None:
        self.build_id = build_id
        self._symbols = symbols
        self._answers = answers
        self._file = file
        self._sought = sought
        self._elsewhere: Path | None = None
        self._debuginfo: DebugInfo | None = None
        self._unsaved: Answers = {}
        self._believed = False

    @classmethod
    def load(cls, path: Path) -> Vmlinux:
        """Facts of the file ``path``, with what earlier runs learned about it.

        Its DWARF may lie elsewhere (:mod:`kvmtools.observe.symbols.debug_file`), and is looked for when it is needed.

        :raises SymbolsError: if the file is missing, or is no kernel for i386
        """
        file = read_vmlinux(path)
        return cls(file.build_id, facts_cache.read(file.build_id), file)

    @classmethod
    def seek(cls, kernel: Identity, folder: Path | None = None) -> Vmlinux:
        """Facts of a kernel that lies in a guest's memory, whose file is looked for when it is needed.

        :param folder: where to look first
        :raises SymbolsError: at once or later, if there is none
        """
        if kernel.build_id is None:
            return cls.load(_found_by_drgn(kernel, folder))
        return cls(kernel.build_id, facts_cache.read(kernel.build_id), sought=(kernel, folder))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Vmlinux:
        """Facts of a recorded guest: only what :meth:`to_json` held can be asked, and the symbols that stand beside it.

        :raises SymbolsError: if the document is not one of ours
        """
        if document.get("schema") != SCHEMA:
            raise SymbolsError(f"not a {SCHEMA} document")
        return cls(document["build_id"], dict(document["answers"]), symbols=document.get("symbols"))

    def to_json(self) -> dict[str, Any]:
        """Everything learned so far, in a stable order."""
        return {"schema": SCHEMA, "build_id": self.build_id, "answers": dict(sorted(self._answers.items()))}

    def all_symbols(self) -> dict[str, int]:
        """Every symbol that a person may name, for a recording; empty if the file has no table of them."""
        return dict(self._symbols or {}) | {
            name: address for file in self._files_if_any() for name, address in symbols_in(file)
        }

    def believe(self) -> None:
        """Keep what is learned, from now on: a guest has shown that this is its kernel.

        A file that nobody runs may be anything, under a build id that is another file's too.
        """
        if not self._believed:
            self._believed = True
            atexit.register(self.save)

    def save(self) -> None:
        """Keep the new answers for the next run, if the file is believed."""
        if self._believed and self._unsaved:
            facts_cache.write(self.build_id, self._unsaved)
            self._unsaved = {}

    @property
    def path(self) -> Path | None:
        """The file with the types and symbols, or ``None`` for recorded facts.

        :raises SymbolsError: if it is sought, and not found
        """
        file = self._found()
        if file is None:
            return None
        return file.path if file.has_dwarf else self.files()[-1]

    @property
    def folder(self) -> Path | None:
        """Where its files are looked for first, if somebody named a folder."""
        return self._sought[1] if self._sought else None

    def files(self) -> tuple[Path, ...]:
        """What drgn and gdb have to read: the file, or its image and the one with the DWARF, which is the last.

        :raises SymbolsError: if there is no DWARF, or none but recorded facts
        """
        file = self._found()
        if file is None:
            raise SymbolsError(
                "the vmlinux itself is needed, and these are recorded facts",
                hint="give it with -s/--symbols PATH",
            )
        if file.has_dwarf:
            return (file.readable,)
        if self._elsewhere is None:
            self._elsewhere = _found_by_drgn(Identity(file.gnu_build_id, file.release()), image=file)
        return (file.readable, self._elsewhere)

    def _files_if_any(self) -> tuple[Path, ...]:
        try:
            return self.files()
        except SymbolsError:
            return ()

    def _found(self) -> VmlinuxFile | None:
        """The file, looked for if need be."""
        if self._file is None and self._sought is not None:
            self._file = read_vmlinux(_found_by_drgn(*self._sought))
        return self._file

    @property
    def page_offset(self) -> int:
        """``PAGE_OFFSET`` as linked: virtual minus physical address of the image."""
        return self._integer("page_offset", "page offset")

    @cached_property
    def architecture(self) -> Architecture:
        """What the kernel was built for.

        :raises SymbolsError: if it is none of :data:`kvmtools.observe.architecture.ARCHITECTURES`
        """
        return architecture_of(self.sizeof("pte_t"))

    @property
    def banner(self) -> bytes | None:
        """``linux_banner`` (init/version.c) as the file has it, up to and without its NUL: which build this is.

        ``None`` if the file holds no code and data, which is not remembered, as another file of this kernel may; and
        of a kernel that was found by its build id in memory, whose file is not needed for this.

        :raises Absent: if the kernel has no such symbol
        """
        if "banner linux_banner" not in self._answers:
            if self._file is None and self._sought is not None:
                return None
            if self._file is not None and not self._file.has_image:
                return None
        text = self._ask("banner", "linux_banner")
        if not isinstance(text, str):
            raise self._absent("symbol", "linux_banner")
        return text.encode("latin-1")

    def symbol(self, name: str) -> int:
        """Link address of ``name``.

        :raises Absent: if there is no such symbol
        """
        return self._integer("symbol", name)

    def has_symbol(self, name: str) -> bool:
        """Whether this kernel has the symbol."""
        return self._ask("symbol", name) is not None

    def which_symbol(self, *names: str) -> str:
        """The first of the names, which are those that one thing has had, that is a symbol.

        :raises Absent: if none is
        """
        for name in names:
            if self.has_symbol(name):
                return name
        raise Absent(f"symbol {' or '.join(names)}", self.build_id)

    @property
    def smp(self) -> bool:
        """Whether the kernel was built for several CPUs, which have per-CPU memory and locks.

        :raises Absent: if the variable that says so is there, and its symbol is not
        """
        if not self.has_symbol("__per_cpu_offset") and self.has_type("typeof(__per_cpu_offset)"):
            raise self._absent("symbol", "__per_cpu_offset")
        return self.has_symbol("__per_cpu_offset")

    def symbol_like(self, variable: str) -> int:
        """Link address of a function's static variable: ``last_pkmap_nr`` finds ``last_pkmap_nr.1``, and clang's
        ``get_next_pkmap_nr.last_pkmap_nr``.

        :raises Absent: if there is no such symbol, or more than one
        """
        return self._integer("symbol_like", variable)

    def sizeof(self, type_name: str, member: str = "") -> int:
        """Size in bytes of a type, or of one of its members.

        :raises Absent: if there is no such type or member
        """
        return self._integer("sizeof", type_name, member)

    def has_type(self, type_name: str) -> bool:
        """Whether the type exists and is complete."""
        return self._ask("sizeof", type_name, "") is not None

    def offset(self, type_name: str, member: str) -> int:
        """Offset in bytes of a member.

        :raises Absent: if there is no such type or member
        """
        return self._integer("offset", type_name, member)

    def has_member(self, type_name: str, member: str) -> bool:
        """Whether the type has the member."""
        return self._ask("offset", type_name, member) is not None

    def which_member(self, type_name: str, *names: str) -> str:
        """The first of the names, which are those that one member has had, that the type has.

        :raises Absent: if it has none of them
        """
        for name in names:
            if self.has_member(type_name, name):
                return name
        raise Absent(f"{type_name}.{' or '.join(names)}", self.build_id)

    def array_length(self, type_name: str, member: str = "") -> int:
        """Elements of an array: a member's, or a variable's (``"typeof(pkmap_count)"``).

        :raises Absent: if there is no such thing or it is not an array
        """
        return self._integer("array_length", type_name, member)

    def enumerators(self, tag: str) -> dict[str, int]:
        """Names and values of ``enum tag``.

        :raises Absent: if there is no such enumeration
        """
        answer = self._ask("enumerators", tag)
        if not isinstance(answer, dict):
            raise self._absent("enumerators", tag)
        return answer

    def constant(self, name: str) -> int:
        """Value of an enumerator of any enumeration, anonymous ones included.

        :raises SymbolsError: if there is none of that name
        """
        return self._integer("constant", name)

    def has_constant(self, name: str) -> bool:
        """Whether some enumeration has the enumerator."""
        return self._ask("constant", name) is not None

    def declarations(self, names: Sequence[str]) -> dict[str, str]:
        """Where in the kernel's source each of ``names`` is declared, ``"mm/highmem.c:141"``, as far as it can be told;
        see :func:`kvmtools.observe.symbols.declarations.declarations`.
        """
        keys = {name: f"declaration {name}" for name in names}
        if not self._answers.keys() >= set(keys.values()) and (files := self._files_if_any()):
            from kvmtools.observe.symbols.declarations import declarations

            learned = {keys[name]: at for name, at in (declarations(files[-1], names) or {}).items()}
            self._answers |= learned
            self._unsaved |= learned
        told = {name: self._answers.get(key) for name, key in keys.items()}
        return {name: at for name, at in told.items() if isinstance(at, str)}

    def _integer(self, question: str, *about: str) -> int:
        answer = self._ask(question, *about)
        if not isinstance(answer, int):
            raise self._absent(question, *about)
        return answer

    def _absent(self, question: str, *about: str) -> Absent:
        return Absent(_THINGS.get(question, "{}").format(".".join(filter(None, about))), self.build_id)

    def _ask(self, question: str, *about: str) -> Answer:
        key = " ".join((question, *about)).rstrip()
        try:
            return self._answers[key]
        except KeyError:
            pass
        answer = self._learn(question, about)
        self._answers[key] = self._unsaved[key] = answer
        return answer

    def _learn(self, question: str, about: tuple[str, ...]) -> Answer:
        file = self._found()
        if file is None:
            if question == "symbol" and self._symbols:
                return self._symbols.get(*about)
            raise SymbolsError(
                f"these recorded facts do not say: {' '.join((question, *about)).rstrip()}",
                hint="record the guest again",
            )
        if question == "page_offset":
            return file.page_offset
        if question == "banner":
            address = self._ask("symbol", *about)
            if not isinstance(address, int):
                return None
            return file.read(address, 512).split(b"\0", 1)[0].decode("latin-1")
        if self._debuginfo is None:
            from kvmtools.observe.symbols.debuginfo import DebugInfo  # drgn: not before it is needed

            self._debuginfo = DebugInfo(file.path, self.files())
        return self._debuginfo.answer(question, *about)


def _found_by_drgn(kernel: Identity, folder: Path | None = None, image: VmlinuxFile | None = None) -> Path:
    from kvmtools.observe.symbols.debug_file import find_debug_file  # drgn: not before it is needed

    return find_debug_file(kernel, folder, image)
