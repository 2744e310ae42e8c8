"""Types and symbols of loaded modules for a drgn program, from the files beside the vmlinux and where drgn looks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import drgn
from drgn.helpers.linux.list import list_for_each_entry

from kvmtools.observe.symbols.debug_file import debug_folders

_FORMS = ("*.ko", "*.ko.debug", "*/*.ko", "*/*.ko.debug")
_MOST = 1000
"""Modules; a longer list has lost its way."""


def add_modules(prog: drgn.Program, vmlinux: tuple[Path, ...], folder: Path | None = None) -> None:
    """Give ``prog`` the symbols and types of the modules that are loaded, as far as their files are found.

    :param vmlinux: the kernel's own files; those of modules beside them, or in a folder there, are tried by build id
    :param folder: that of debug files which the person named
    """
    loaded = list(_loaded(prog))
    beside = files_beside(vmlinux)
    for module in loaded:
        for path in beside[module.name]:
            if module.wants_debug_file():
                module.try_file(path)
    prog.debug_info_options.directories = debug_folders(folder)
    prog.debug_info_options.kernel_directories = (*_build_trees(vmlinux), "")
    if loaded:
        prog.load_module_debug_info(*loaded)


def _loaded(prog: drgn.Program) -> Iterator[drgn.Module]:
    """The list ``modules``, as far as it can be read; none without CONFIG_MODULES."""
    with suppress(LookupError, drgn.FaultError):
        seen = set()
        for each in islice(
            list_for_each_entry("struct module", prog["modules"].address_of_(), "list"), _MOST
        ):
            if each.value_() in seen:
                return
            seen.add(each.value_())
            with suppress(LookupError, ValueError, drgn.FaultError):  # one that is just being loaded
                yield prog.linux_kernel_loadable_module(each, create=True)


def files_beside(vmlinux: tuple[Path, ...]) -> dict[str, list[Path]]:
    """By the name of their module: ``kvmtools.debug.ko`` is of kvmtools, ``snd-hda.ko.debug`` of snd_hda."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in {path.parent for path in vmlinux}:
        for path in sorted(path for form in _FORMS for path in folder.glob(form)):
            found[path.name.partition(".")[0].replace("-", "_")].append(path)
    return found


def _build_trees(vmlinux: tuple[Path, ...]) -> Iterator[str]:
    """Folders that drgn may search through for modules: those of the kernel's own making, however deep."""
    for folder in {path.parent for path in vmlinux}:
        if (
            (folder / "Module.symvers").exists()
            or (folder / "modules.order").exists()
            or (folder / "kernel").is_dir()
        ):
            yield str(folder.absolute())
