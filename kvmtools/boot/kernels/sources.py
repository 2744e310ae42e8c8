"""Where a kernel's source comes from: the distribution's tarball, another tarball, or somebody's own tree.

A tarball is unpacked once into the cache and kept, so that the second kernel and every later build start at once,
and a debugger finds the lines its DWARF speaks of.  A tree is used where it is, and never written to.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.host.cache_lock import exclusive
from kvmtools.boot.kernels import toolchain
from kvmtools.errors import BuildError, UsageError
from kvmtools.paths import cache_dir

CHOSEN = "KVMTOOLS_SOURCE"
"""The environment variable that names another default than the distribution's source."""
_DISTRIBUTION = Path("/usr/src")
_TARBALL = re.compile(r"linux-source-(\d+(?:\.\d+)+)(\.t[a-z0-9.]+)")
_SUFFIXES = (*(f".tar{suffix}" for suffix in toolchain.UNPACKERS), ".tar", ".tgz")

# Never compiled for our guests, and two thirds of the tarball.  Their Kconfig files and Makefiles stay: others
# include them.
_UNUSED = (
    *("drivers/gpu", "drivers/net", "drivers/media", "drivers/staging", "drivers/infiniband", "drivers/scsi"),
    *("sound", "tools/perf", "tools/testing", "Documentation"),
)
_UNUSED_FILES = tuple(
    f"--exclude=*/{folder}/*.{kind}" for folder in _UNUSED for kind in ("[chS]", "rst", "json")
)


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel's source.

    :ivar path: the tarball, or the tree's top directory
    :ivar identity: changes whenever the content may have changed
    """

    path: Path
    identity: str

    @property
    def is_tree(self) -> bool:
        return self.path.is_dir()


def locate(path: Path | None) -> Source:
    """The source at ``path``; without one, ``$KVMTOOLS_SOURCE`` or the distribution's newest ``linux-source`` tarball.

    :raises UsageError: if ``path`` is neither a kernel tree nor a tarball
    :raises BuildError: if no path was given and no package of the distribution's is installed
    """
    said = ""
    if path is None and (named := os.environ.get(CHOSEN)):
        path, said = Path(named), f" (from {CHOSEN})"
    chosen = _distribution_tarball() if path is None else path.absolute()
    if chosen.is_dir():
        if not (chosen / "Kconfig").is_file() or not (chosen / "arch/x86/Makefile").is_file():
            raise UsageError(
                f"'{chosen}'{said} is no Linux source tree", hint="it has no Kconfig or no arch/x86"
            )
        return Source(chosen, _tree_identity(chosen))
    if not chosen.is_file() or not chosen.name.endswith(_SUFFIXES):
        raise UsageError(
            f"'{chosen}'{said} is neither a Linux source tree nor a tarball",
            hint=f"tarballs end in {', '.join(_SUFFIXES)}",
        )
    status = chosen.stat()
    return Source(chosen, f"{chosen.name} {status.st_size} {status.st_mtime_ns}")


def _distribution_tarball() -> Path:
    """What a ``linux-source-VERSION`` package has put there: on Debian the tarball, on Ubuntu a link to it."""
    found = {
        tuple(map(int, match[1].split("."))): path
        for path in sorted(_DISTRIBUTION.glob("linux-source-*"))
        if (match := _TARBALL.fullmatch(path.name)) and match[2] in _SUFFIXES and path.is_file()
    }
    if not found:
        raise BuildError(
            f"there is no kernel source: {_DISTRIBUTION}/linux-source-*.tar.* is missing",
            hint=f"apt install linux-source, or name a tree or tarball with --source or in ${CHOSEN}",
        )
    return found[max(found)]


def _tree_identity(tree: Path) -> str:
    """Path, size and time of every file: editing a tree must never boot yesterday's kernel."""
    digest = hashlib.sha256(os.fsencode(tree))
    for name, size, modified in sorted(_files(tree)):
        digest.update(b"%s %d %d\n" % (os.fsencode(name), size, modified))
    return f"{tree} {digest.hexdigest()}"


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in {".git", "Documentation"}:
                    yield from _files(Path(entry.path))
            elif entry.name != "tags" and not entry.name.startswith("."):
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status.st_size, status.st_mtime_ns


def programs(source: Source) -> list[toolchain.Program]:
    """What unpacking the source takes."""
    if source.is_tree:
        return []
    suffix = ".gz" if source.path.suffix == ".tgz" else source.path.suffix
    unpacker = toolchain.UNPACKERS.get(suffix)
    return [toolchain.TAR, *([unpacker] if unpacker else [])]


def tree_of(source: Source, progress: Callable[[str], None]) -> Path:
    """The directory to build from: the tree itself, or the tarball unpacked in the cache.

    :raises BuildError: if the tree was built in (no out-of-tree build is possible then), or the tarball does not unpack
    """
    if source.is_tree:
        refuse_built_in(source.path)
        return source.path
    folder = cache_dir() / "sources"
    key = hashlib.sha256(source.identity.encode()).hexdigest()[:12]
    place = folder / f"{re.sub(r'[.](tar|tgz).*', '', source.path.name)}-{key}"
    with exclusive(place, progress, f"unpacking {source.path.name}"):
        if not place.is_dir():
            _unpack(source.path, place, progress)
    return place


def refuse_built_in(tree: Path) -> None:
    """The kernel's own rule for ``O=`` builds, said in our words before anything starts.

    :raises BuildError: if somebody configured or built inside ``tree``
    """
    traces = (".config", "include/config", "arch/x86/include/generated")
    found = [trace for trace in traces if (tree / trace).exists()]
    if found:
        raise BuildError(
            f"the tree {tree} has been built in ({found[0]} is there): it cannot serve for a build outside of it",
            hint="`make mrproper` in it (save your .config first), or give another checkout: git worktree add",
        )


def _unpack(tarball: Path, place: Path, progress: Callable[[str], None]) -> None:
    progress(f"unpacking {tarball.name}")
    unfinished = place.with_name(f".unpacking-{place.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        command = [
            "tar",
            "-x",
            "-f",
            str(tarball),
            "-C",
            str(unfinished),
            "--strip-components=1",
            *_UNUSED_FILES,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=toolchain.environment()
        )
        if done.returncode:
            complaint = done.stderr.strip().partition("\n")[0]
            raise BuildError(
                f"{tarball} does not unpack: {complaint}", hint="is the disk full, or the tarball damaged?"
            )
        if not (unfinished / "Kconfig").is_file():
            raise BuildError(f"{tarball} holds no Linux source tree", hint="its top folder has no Kconfig")
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
