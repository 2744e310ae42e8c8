"""Zstandard, by whichever library there is: Python's own since 3.14, else the ``zstandard`` package."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from kvmtools.attach.memory.sparse import write_sparse
from kvmtools.errors import AttachError, UsageError

MAGIC = b"\x28\xb5\x2f\xfd"
"""How every compressed file begins: RFC 8878, 3.1.1."""
_CHUNK = 1 << 20


def compressing(file: IO[bytes]) -> IO[bytes]:
    """What is written to the result arrives compressed in ``file``, once that is closed; ``file`` stays open.

    :raises UsageError: if there is no library for it
    """
    library = _library()
    if library is None:
        raise UsageError("no library for Zstandard is installed", hint="pip install 'kvmtools[zstd]'")
    # Python's own leaves the file open; of the package's, only the writer does.
    opened: IO[bytes] = (
        library.open(file, "wb")
        if library.__name__ == "compression.zstd"
        else library.ZstdCompressor().stream_writer(file, closefd=False)
    )
    return opened


def decompressed(file: IO[bytes], path: Path) -> IO[bytes]:
    """The content of a compressed file, in a file without a name that ends with its descriptor.

    :raises AttachError: if it is damaged, or there is no library or no room for it
    """
    library = _library()
    if library is None:
        raise AttachError(
            f"{path} is compressed with Zstandard, and no library for that is installed",
            hint=f"pip install 'kvmtools[zstd]', or: zstd -d {path}",
        )
    import tempfile  # 4 ms, which a live guest need not pay for

    whole = tempfile.TemporaryFile()  # noqa: SIM115 (it is the result)
    try:
        with library.open(file, "rb") as source:
            while chunk := source.read(_CHUNK):
                write_sparse(whole, memoryview(chunk))
        whole.truncate()
        whole.flush()
    except OSError as error:
        whole.close()
        raise AttachError(f"cannot decompress {path}: {error.strerror or error}") from error
    except (library.ZstdError, EOFError) as error:
        whole.close()
        raise AttachError(f"{path} is a damaged Zstandard file: {error}") from error
    except BaseException:
        whole.close()
        raise
    return whole


def _library() -> Any:
    with suppress(ImportError):
        from compression import zstd

        return zstd
    with suppress(ImportError):
        import zstandard

        return zstandard
    return None
