"""Where a guest's RAM file lives: in memory if that is safe, on disk if not.

The file is sparse, 0600, and as long as the guest's RAM.  On tmpfs it is as quick as memory can be, but a
tmpfs that runs full kills QEMU with SIGBUS; so it is used only if it holds what the guest will likely touch.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kvmtools.errors import AttachError
from kvmtools.paths import cache_dir

SHARED_MEMORY = Path("/dev/shm")
GIB = 1 << 30


def create(name: str, directory: Path, size: int) -> Path:
    """Make the RAM file of the guest ``name`` that lives in ``directory``: ``size`` bytes, none touched.

    :raises AttachError: if no place has room
    """
    discard(name, directory)  # of a guest that lost its run directory
    refusals = []
    for place in places(size):
        path = place / _file_name(name, directory)
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            refusals.append(f"{path} is not ours")
            continue
        except OSError as error:
            refusals.append(f"{place}: {error.strerror}")
            continue
        try:
            os.truncate(fd, size)
        except OSError as error:
            path.unlink()
            refusals.append(f"{place}: {error.strerror}")
            continue
        finally:
            os.close(fd)
        return path
    why = "; ".join(refusals) or "neither /dev/shm nor the cache directory has that much"
    raise AttachError(
        f"no room for the {likely_touched(size) / GIB:.1f} GiB that the guest will likely touch: {why}",
        hint="ask for less memory, or free some space in the cache directory",
    )


def discard(name: str, directory: Path, *recorded: Path) -> None:
    """Remove the guest's RAM file, wherever it lies.

    Only a plain file of ours, and of the name that we give: /dev/shm is everybody's.

    :param recorded: where its record says that it lies
    """
    own_name = _file_name(name, directory)
    places = {
        SHARED_MEMORY,
        cache_dir() / "ram",
        *(path.parent for path in recorded if path.name == own_name),
    }
    for path in (place / own_name for place in places):
        try:
            status = path.lstat()
        except OSError:  # a cache that cannot be looked into holds nothing of ours
            continue
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
            path.unlink(missing_ok=True)


def likely_touched(size: int) -> int:
    """Bytes of a guest's RAM that a session will likely touch.

    Up to 2 GiB all of it (a memory load fills it); beyond that 1/64 of it, twice what ``mem_map`` takes
    (``struct page`` is 32 bytes of every 4,096).
    """
    return min(size, 2 * GIB + size // 64)


def places(size: int) -> Iterator[Path]:
    """The directories that may hold ``size`` bytes of guest RAM, the quickest first."""
    needed = likely_touched(size)
    if min(_free(SHARED_MEMORY), _available_memory()) > needed:
        yield SHARED_MEMORY
    on_disk = cache_dir() / "ram"
    if _free(on_disk) > needed:
        yield on_disk


def touched_bytes(path: Path) -> int | None:
    """How much of the file really exists; ``None`` if it cannot be looked at: its guest may have it all the same."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return None


def _file_name(name: str, directory: Path) -> str:
    # Guests of one name may run under several run directories; /dev/shm is everybody's.
    where = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return f"kvmtools-{os.getuid()}-{name}-{where}.ram"


def _free(directory: Path) -> int:
    while not os.path.exists(directory):  # false, too, where it may not be looked at
        directory = directory.parent
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0
