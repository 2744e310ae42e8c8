"""Dumps that were written to where nobody can seek: makedumpfile's flattened form, which QEMU writes, too.

Behind a header, pieces of the real file in any order, each with its place.  Source: makedumpfile's IMPLEMENTATION,
"flattened format"; ``struct MakedumpfileHeader``, QEMU include/sysemu/dump.h.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import IO

from kvmtools.errors import AttachError

SIGNATURE = b"makedumpfile"
_HEADER = 4096
_PIECE = struct.Struct(">qq")
_LAST = -1
_CHUNK = 1 << 20


def rearranged(file: IO[bytes], path: Path) -> IO[bytes]:
    """The real file, without a name; it ends with its descriptor.

    :raises AttachError: if it was cut, or there is no room for it
    """
    whole = tempfile.TemporaryFile()  # noqa: SIM115 (it is the result)
    try:
        file.seek(_HEADER)
        while True:
            place, size = _PIECE.unpack(_exactly(file, _PIECE.size))
            if place == _LAST:
                whole.flush()
                return whole
            if place < 0 or size < 0:
                raise ValueError("a piece of it lies nowhere")
            whole.seek(place)
            while size:
                size -= whole.write(_exactly(file, min(size, _CHUNK)))
    except OSError as error:
        whole.close()
        raise AttachError(f"cannot rearrange {path}: {error.strerror or error}") from error
    except ValueError as error:
        whole.close()
        raise AttachError(f"{path} is a damaged flattened dump: {error}") from error
    except BaseException:
        whole.close()
        raise


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it was cut off")
    return data
