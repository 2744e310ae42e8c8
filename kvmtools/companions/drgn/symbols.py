"""Symbols and types of an i386 kernel, where KASLR put them.

drgn moves a kernel's symbols by the ``KERNELOFFSET`` of its VMCOREINFO, which i386 does not note; and a program's note
is read before any plugin is asked.  An *extra* module, though, lies where it is said to.  So the vmlinux is given to
one of ours, and drgn's main module is told that it needs none.

drgn does not show a plugin the files that it was given (``-s``).  But while it looks whether they belong to a kernel
module it has them open, and asks for ``struct module``, of us first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from drgn import Module, ModuleFileStatus, Program, Type, TypeKindSet

from kvmtools.api.adopted import AdoptedProgram
from kvmtools.api.module_symbols import files_beside
from kvmtools.errors import KvmtoolsError
from kvmtools.show.printable import printable, told

LOGGER = logging.getLogger("drgn")
MODULE = "vmlinux"
FINDER = "kvmtools"
_OPEN_FILES = Path("/proc/self/fd")
_UNKNOWN_BUILD_ID = bytes(20)
"""A module without a build id would be given any vmlinux of the same release, at its link address."""


def find_symbols_for(prog: Program, adopted: AdoptedProgram) -> None:
    """Load the vmlinux as soon as drgn is given one, or needs one."""
    main = prog.main_module("kernel", create=True)
    main.build_id = bytes.fromhex(adopted.build_id or "") or _UNKNOWN_BUILD_ID
    main.loaded_file_status = main.debug_file_status = ModuleFileStatus.DONT_NEED
    prog.register_type_finder(FINDER, _Search(adopted), enable_index=0)


class _Search:
    """A type finder that finds no type, but the vmlinux before others look for the type in it."""

    def __init__(self, adopted: AdoptedProgram) -> None:
        self._adopted = adopted
        self._at_rest = False
        self._looked_everywhere = False
        self._refused: set[tuple[str, ...]] = set()

    def __call__(self, prog: Program, kinds: TypeKindSet, name: str, filename: str | None) -> Type | None:
        # It stays enabled: drgn would forget the finders behind one that takes itself out while it is asked.
        if not self._at_rest:
            self._at_rest = True
            try:
                self._at_rest = self._found(prog)
            except BaseException:
                self._at_rest = False
                raise
        return None

    def _found(self, prog: Program) -> bool:
        if any(self._load(prog, path) for path in self._given()):
            return True
        if self._looked_everywhere:
            return False
        self._looked_everywhere = True
        if any(self._load(prog, path) for path in _installed(prog, self._adopted)):
            return True
        LOGGER.warning(
            "kvmtools: missing debugging symbols for kernel %s: give its vmlinux with -s PATH",
            printable(self._adopted.noted.release),
        )
        return False

    def _given(self) -> Iterator[Path]:
        """Files that are open and may be the vmlinux."""
        for name in os.listdir(_OPEN_FILES):
            with suppress(OSError):
                path = Path(os.readlink(_OPEN_FILES / name))
                if path.is_absolute() and path.is_file() and self._adopted.may_be_vmlinux(path):
                    yield path

    def _load(self, prog: Program, path: Path) -> bool:
        try:
            files, image, slide = self._adopted.use(path)
        except KvmtoolsError as error:
            if error.args not in self._refused:
                self._refused.add(error.args)
                LOGGER.warning("kvmtools: %s", told(error))
            return False
        module = prog.extra_module(MODULE, create=True)
        module.address_range = image.start, image.end
        if self._adopted.build_id:
            module.build_id = bytes.fromhex(self._adopted.build_id)
        module.loaded_file_status = ModuleFileStatus.WANT  # it may be that only the image has all symbols
        for file in files:
            module.try_file(file, force=True)  # use() has verified that it is the guest's
        beside = files_beside(files)
        prog.register_debug_info_finder(FINDER, partial(_try_beside, beside), enable_index=0)
        if module.debug_file_bias != slide:
            raise AssertionError(f"drgn moves {path} by {module.debug_file_bias}, not by {slide:#x}")
        return True


def _try_beside(beside: Mapping[str, list[Path]], modules: Sequence[Module]) -> None:
    """Files of loaded modules that lie where the vmlinux does; drgn compares their build ids."""
    for module in modules:
        for path in beside.get(module.name, ()):
            if module.wants_debug_file():
                module.try_file(path)


def _installed(prog: Program, adopted: AdoptedProgram) -> Iterator[Path]:
    """Where drgn's own finders would take the vmlinux from: asked in a program of its own, which takes it at its link
    address, and is thrown away."""
    other = Program(prog.platform)
    other.set_linux_kernel_custom(adopted.vmcoreinfo, is_live=False)
    other.debug_info_options = prog.debug_info_options
    known = other.registered_debug_info_finders()
    other.set_enabled_debug_info_finders(
        [each for each in prog.enabled_debug_info_finders() if each in known]
    )
    kernel = next(module for module, _new in other.loaded_modules())
    with suppress(LookupError):
        other.load_module_debug_info(kernel)
    yield from (Path(path) for path in (kernel.debug_file_path, kernel.loaded_file_path) if path is not None)
