"""A file mapped for reading, for as long as anybody looks at it.

The standard :mod:`mmap` can do neither of two things we need.  It refuses to close while views exist
(``BufferError``); here the mapping ends with its last view.  And it hides its address.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_MAP_FAILED = ctypes.c_void_p(-1).value


class MappedFile:
    """``size`` bytes of the file ``descriptor``, from its start; shared, read-only.

    :raises OSError: if the kernel refuses
    """

    def __init__(self, descriptor: int, size: int) -> None:
        base = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if base == _MAP_FAILED:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self._base = int(base)
        memory = (ctypes.c_ubyte * size).from_address(self._base)
        # Every memoryview holds the array, so this runs when the last of them is gone.
        weakref.finalize(memory, _libc.munmap, self._base, size).atexit = False
        self._bytes = memoryview(memory).cast("B").toreadonly()

    def view(self, offset: int, size: int) -> memoryview:
        """The mapped bytes, not a copy."""
        return self._bytes[offset : offset + size]
