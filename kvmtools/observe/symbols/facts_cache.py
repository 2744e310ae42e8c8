"""What earlier runs learned of a vmlinux: ``cache_dir()/facts/<build-id>.json``.

Answers are worth as much as who gave them: they are kept with the name of what asked (this code, and the drgn that it
asks), and none of another's is believed.  The cache is a convenience and never a cause of failure: an unreadable or
damaged file is rebuilt, an unwritable directory is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from kvmtools.attach import elf
from kvmtools.paths import cache_dir

Answer = int | str | dict[str, int] | None
Answers = dict[str, Answer]

_ASKING = ("debuginfo.py", "declarations.py", "vmlinux.py", "vmlinux_file.py")


def read(build_id: str) -> Answers:
    """What is known of the vmlinux with this build id; nothing if it was learned by others than :func:`asked_by`."""
    try:
        document = json.loads(_file(build_id).read_bytes())
        if (document["build_id"], document["asked_by"]) == (build_id, asked_by()):
            return {str(key): answer for key, answer in document["answers"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {}


def write(build_id: str, answers: Answers) -> None:
    """Add answers to those that are there, if there is a place for them."""
    known = {**read(build_id), **answers}
    with contextlib.suppress(OSError):
        document = {"build_id": build_id, "asked_by": asked_by(), "answers": dict(sorted(known.items()))}
        _replace(_file(build_id), json.dumps(document, indent=0))


def asked_by() -> str:
    """A digest of the code that asks, and of the drgn that answers, its version and its build; neither is imported for
    it.

    :raises OSError: if the files of either cannot be read
    """
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in (*(here / name for name in _ASKING), Path(elf.__file__)):
        digest.update(path.read_bytes())
    digest.update("\n".join(_drgn()).encode())
    return digest.hexdigest()[:16]


def _drgn() -> Iterator[str]:
    """Which drgn it is: its version, and when its library was built in or installed here."""
    library = find_spec("_drgn")
    if library is None or library.origin is None:
        return
    path = Path(library.origin)
    status = path.stat()
    yield f"{path.name} {status.st_size} {status.st_mtime_ns}"
    # drgn-0.3.0.dist-info beside it: importlib.metadata would tell, but takes 50 ms to import.
    yield from sorted(each.name for each in path.parent.glob("drgn-*"))


def _file(build_id: str) -> Path:
    return cache_dir() / "facts" / f"{build_id}.json"


def _replace(path: Path, text: str) -> None:
    """Write at once or not at all: another process sees the old file or the new one."""
    import tempfile  # 4 ms, and seldom needed

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".facts-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
