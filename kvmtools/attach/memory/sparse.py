"""Zeros that take no room on the disk."""

from __future__ import annotations

import os
from typing import IO

_BLOCK = 1 << 16
_ZEROS = bytes(_BLOCK)


def write_sparse(file: IO[bytes], data: memoryview) -> None:
    """As ``file.write``, but whole blocks of zeros become holes; truncate the file at the end, which may be one."""
    for at in range(0, len(data), _BLOCK):
        block = bytes(data[at : at + _BLOCK])
        if block == _ZEROS:
            file.seek(_BLOCK, os.SEEK_CUR)
        else:
            file.write(block)
