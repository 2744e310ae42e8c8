"""A snapshot as a file: one line of JSON that says what follows, then the captured bytes, compressed with
zlib."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from kvmtools.errors import AttachError
from kvmtools.records import Range

_SCHEMA = "kvmtools-snapshot/1"


def write(path: Path, name: str, ranges: Iterable[Range], blocks: Iterable[tuple[int, memoryview]]) -> None:
    """Write ``blocks`` (guest-physical address, bytes; sorted, disjoint); neighbours become one block.

    :raises AttachError: if the file cannot be written
    """
    joined: list[tuple[int, int]] = []
    packer = zlib.compressobj(9)
    body = bytearray()
    for start, data in blocks:
        body += packer.compress(data)
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + len(data))
        else:
            joined.append((start, len(data)))
    body += packer.flush()
    header = {
        "schema": _SCHEMA,
        "name": name,
        "ranges": [[hex(r.start), hex(r.end)] for r in ranges],
        "blocks": [[hex(start), size] for start, size in joined],
    }
    try:
        path.write_bytes(json.dumps(header).encode() + b"\n" + body)
    except OSError as error:
        raise AttachError(f"cannot write the snapshot {path}: {error.strerror}") from error


def read(path: Path) -> tuple[str, tuple[Range, ...], list[tuple[int, bytearray]]]:
    """``(name, ranges, blocks)`` as given to :func:`write`.

    :raises AttachError: if the file cannot be read, is none of ours, or is damaged
    """
    try:
        text, _, body = path.read_bytes().partition(b"\n")
        header = json.loads(text)
        if header["schema"] != _SCHEMA:
            raise ValueError(f"schema {header['schema']}")
        data = memoryview(zlib.decompress(body))
        blocks = []
        for start, size in header["blocks"]:
            blocks.append((int(start, 16), bytearray(data[:size])))
            data = data[size:]
        if data or any(len(block) % 4096 for _, block in blocks):
            raise ValueError("sizes do not add up")
        ranges = tuple(Range(int(start, 16), int(end, 16)) for start, end in header["ranges"])
        return str(header["name"]), ranges, blocks
    except OSError as error:
        raise AttachError(f"cannot read the snapshot {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise AttachError(f"{path} is not a snapshot of kvmtools: {error}") from error
