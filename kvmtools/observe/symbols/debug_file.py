"""Where the DWARF of a kernel is, if not in the file that was given: drgn looks where distributions put it, and asks
debuginfod.  What it tried, and why it did not take it, stands in its log.

Importing this module imports drgn.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import drgn

from kvmtools.errors import SymbolsError
from kvmtools.observe.symbols.vmlinux_file import Identity, VmlinuxFile, build_id_of

I386 = drgn.Platform(drgn.Architecture.I386, drgn.PlatformFlags.IS_LITTLE_ENDIAN)

URLS = "DEBUGINFOD_URLS"
STANDARD = "/usr/lib/debug"
# drgn leaves out debuginfod for kernels but Fedora's, as servers are slow with files of that size; who names a server
# wants it asked.
_FINDERS = ("standard", "debuginfod")
# What drgn demands of a kernel; only the release is looked at here.
_NOTE = "OSRELEASE={release}\nPAGESIZE=4096\nKERNELOFFSET=0\nSYMBOL(swapper_pg_dir)=1\n"
_NAMES = tuple(f"vmlinux.{form}" for form in ("debug", "xz", "zst", "gz", "bz2"))
"""Names in a folder that drgn does not think of."""


def find_debug_file(kernel: Identity, folder: Path | None = None, image: VmlinuxFile | None = None) -> Path:
    """The file with the DWARF of a kernel: by its build id, else by its release.

    :param folder: where to look first: a build tree, a folder of debug files, or the files of a package
    :param image: a file of this kernel without DWARF, which may name the one that has it
    :raises SymbolsError: if there is none in any of the places; they are named
    """
    place = folder.absolute() if folder else image.path.absolute().parent if image else None
    program = drgn.Program(I386)
    if kernel.release is not None and "/" not in kernel.release:  # it may be a guest that says it
        program.set_linux_kernel_custom(_NOTE.format(release=kernel.release), is_live=True)
    options = program.debug_info_options
    options.directories = debug_folders(folder)
    options.kernel_directories = (str(place), "") if place else ("",)
    known = program.registered_debug_info_finders()
    program.set_enabled_debug_info_finders([name for name in _FINDERS if name in known])
    module = program.main_module("kernel", create=True)
    if kernel.build_id is not None:
        module.build_id = bytes.fromhex(kernel.build_id)
    with _log() as log:
        try:
            _try_image(module, image)
            program.find_standard_debug_info([module])
            if place is not None and kernel.build_id is not None:
                _try(module, place, *_NAMES, *([f"{image.path.name}.debug"] if image else []))
            if os.environ.get(URLS) and module.wants_debug_file():
                _interruptible(lambda: program.load_module_debug_info(module))
            if kernel.build_id is not None:
                _try(module, Path(), *log.other_crc)  # packed anew, say: its build id decides
        except Exception as error:  # drgn reports damage as a bare one
            log.refused.append(f"drgn cannot read all of it: {error}")
    if module.debug_file_path is None:
        raise _nothing_found(kernel, image, log)
    found = Path(module.debug_file_path)
    if ".build-id" in log.trying and (build_id := build_id_of(found)) != kernel.build_id:
        raise SymbolsError(
            f"{log.trying} has build id {build_id}, not {kernel.build_id}",
            hint="drgn believes the name: remove it, or install it again",
        )
    return found


def _interruptible(search: Callable[[], None]) -> None:
    """Run it such that Ctrl-C ends it at once: debuginfod's client waits for a silent server for minutes, and lets
    nobody through to Python meanwhile.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            search()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def debug_folders(folder: Path | None) -> tuple[str, ...]:
    """Folders that are laid out as ``/usr/lib/debug`` is: the person's, one of a package unpacked there, and that."""
    return (
        (STANDARD,)
        if folder is None
        else (str(folder.absolute()), f"{folder.absolute()}{STANDARD}", STANDARD)
    )


def _try_image(module: drgn.Module, image: VmlinuxFile | None) -> None:
    """Give drgn the kernel's image, for the name in its ``.gnu_debuglink``; it needs none otherwise."""
    if image is not None:
        module.loaded_file_status = drgn.ModuleFileStatus.WANT
        for path in (
            image.path,
            image.readable,
        ):  # drgn unpacks most forms, and then knows where the file lies
            if module.wants_loaded_file():
                module.try_file(path)
    if module.wants_loaded_file():
        module.loaded_file_status = drgn.ModuleFileStatus.DONT_WANT


def _try(module: drgn.Module, place: Path, *names: str) -> None:
    for name in names:
        if module.wants_debug_file():
            module.try_file(place / name)


@dataclass
class _Log:
    """What drgn tried."""

    missing: list[str] = field(default_factory=list)
    """Files that are not there."""
    no_dwarf: list[str] = field(default_factory=list)
    """Files that are, and do not help."""
    refused: list[str] = field(default_factory=list)
    """Files that are, and what is wrong with each."""
    other_crc: dict[str, str] = field(default_factory=dict)
    """Files that a ``.gnu_debuglink`` names with another checksum, and what there is to say of each."""
    crc: str = ""
    """The checksum that it says."""
    trying: str = ""
    """The last one that is there."""

    def note(self, message: str) -> None:
        """Take from a line what it says."""
        if found := re.fullmatch(r"kernel: trying (/.*)", message):
            self.trying = found[1]
        elif found := re.fullmatch(r"(/.*): No such file or directory", message):
            self.missing.append(found[1])
        elif found := re.fullmatch(r"(/.*): (\S.*)", message):
            self.refused.append(f"{found[1]} cannot be read: {found[2]}")
        elif found := re.fullmatch(r"kernel: (/.*) build ID does not match", message):
            self.refused.append(f"{found[1]} has build id {build_id_of(Path(found[1]))}")
        elif found := re.fullmatch(r"kernel: (/.*) is missing build ID", message):
            self.refused.append(f"{found[1]} has no build id")
        elif found := re.fullmatch(r"/.* has debuglink .* (CRC 0x\w+)", message):
            self.crc = found[1]
        elif found := re.fullmatch(r"kernel: (/.*) (CRC 0x\w+) does not match", message):
            self.other_crc[found[1]] = f"{found[1]} has {found[2]}, .gnu_debuglink says {self.crc}"
        elif found := re.fullmatch(r"(/.*) is (?:not )?loadable.*; ignoring", message):
            self.no_dwarf.append(found[1])
        elif found := re.search(r"couldn't download debug info from debuginfod: (.*)", message):
            self.refused.append(f"debuginfod: {found[1]}")


@contextmanager
def _log() -> Iterator[_Log]:
    """What drgn logs meanwhile; nobody else hears more of it than before."""
    log, logger = _Log(), logging.getLogger("drgn")
    level, shown = logger.level, logger.getEffectiveLevel()

    def note(record: logging.LogRecord) -> bool:
        log.note(record.getMessage())
        return record.levelno >= shown

    logger.addFilter(note)
    logger.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        logger.setLevel(level)
        logger.removeFilter(note)


def _refused(image: VmlinuxFile | None, log: _Log) -> Iterator[str]:
    """Files that are there, and what is wrong with each; a checksum only where no build id says more."""
    for path in log.no_dwarf:
        if image is None or path != str(image.path.absolute()):
            yield f"nor in {path}"
    yield from log.refused
    for path, said in log.other_crc.items():
        if not any(each.startswith(f"{path} ") for each in log.refused):
            yield said


def _nothing_found(kernel: Identity, image: VmlinuxFile | None, log: _Log) -> SymbolsError:
    build_id = f"build id {kernel.build_id}" if kernel.build_id else "no build id"
    release = kernel.release or "RELEASE"
    what = f"in {image.path} ({build_id})" if image else f"for the guest's kernel {release} ({build_id})"
    refused = "".join(f"; {each}" for each in dict.fromkeys(_refused(image, log)))
    looked = f"looked for {', '.join(dict.fromkeys(log.missing))}; " if log.missing else ""
    servers = "" if os.environ.get(URLS) else f"set {URLS}, "
    return SymbolsError(
        f"no DWARF {what}{refused}",
        hint=f"{looked}install the debug package (Debian's is linux-image-{release}-dbg), {servers}name the file or "
        "its folder with -s, or build with CONFIG_DEBUG_INFO_DWARF5=y",
    )
