"""One C structure, read once, its members asked for by name.

:meth:`kvmtools.observe.kernel.Kernel.member` reads guest memory for every member; here the bytes are fetched
together, so that what is read of one object is of one moment and costs one read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.kernel import Kernel
from kvmtools.observe.per_cpu import read_virtual


class Structure:
    """The ``type_name`` at a kernel address, in the linear map or not.

    :raises MemoryFault: if the kernel does not map it
    :raises SymbolsError: if the kernel has no such type; the same for a member, when it is asked for
    """

    def __init__(self, kernel: Kernel, type_name: str, address: int) -> None:
        self.vmlinux = kernel.vmlinux
        self.type_name = type_name
        self.address = address
        self.data = read_virtual(kernel, address, self.vmlinux.sizeof(type_name))

    def has(self, member: str) -> bool:
        """Whether this kernel's structure has the member."""
        return self.vmlinux.has_member(self.type_name, member)

    def at(self, member: str) -> int:
        """Virtual address of a member."""
        return self.address + self.vmlinux.offset(self.type_name, member)

    def raw(self, member: str) -> bytes:
        """The bytes of a member."""
        start = self.vmlinux.offset(self.type_name, member)
        return self.data[start : start + self.vmlinux.sizeof(self.type_name, member)]

    def unsigned(self, member: str) -> int:
        """An unsigned integer or a pointer, of whatever size; ``atomic_t`` and ``atomic_long_t`` included."""
        return int.from_bytes(self.raw(member), "little")

    def signed(self, member: str) -> int:
        """A signed integer of whatever size."""
        return int.from_bytes(self.raw(member), "little", signed=True)

    def column(self, member: str, dtype: np.dtype[np.integer] | str) -> NDArray[np.int64]:
        """An array member whose elements are ``dtype`` in memory, widened to ``int64``; shape ``(length,)``."""
        return np.frombuffer(self.raw(member), dtype).astype(np.int64)

    def text(self, member: str) -> str:
        """A ``char[]`` member, up to its NUL, in Latin-1."""
        return c_string(self.raw(member))


def c_string(data: bytes) -> str:
    """What C sees of ``data``: up to its NUL, in Latin-1 so that no byte is lost; whoever prints it filters it."""
    return data.partition(b"\0")[0].decode("latin-1")
