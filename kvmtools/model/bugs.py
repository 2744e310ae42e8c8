"""Where the kernel would stop, as exceptions: a ``BUG_ON`` that holds, or a page fault on a ``struct page``.

::

    KernelStops              exit 1   the kernel would not get past this
    ├── KernelBug            a BUG_ON of the kernel's holds; the condition is named as it stands there
    └── Unmapped             an access to a struct page that no page table maps: an oops

They are answers of the model, not failures of it: a caller that wants to know what a kernel would survive
catches ``KernelStops``.
"""

from __future__ import annotations

from typing import ClassVar

from kvmtools.errors import KvmtoolsError


class KernelStops(KvmtoolsError):
    """The kernel would stop here."""

    exit_code: ClassVar[int] = 1


class KernelBug(KernelStops):
    """A ``BUG_ON`` (or a bare ``BUG()``) would have stopped the kernel.

    :param condition: what was true, in the kernel's own words, such as ``pkmap_count[nr] < 2``
    :param message: what that means here, with the numbers
    """

    def __init__(self, condition: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"BUG_ON({condition}): {message}", hint=hint)
        self.condition = condition


class Unmapped(KernelStops):
    """A read or write of a ``struct page`` whose virtual address no page table maps.

    :param address: the virtual address that was touched
    :param message: whose ``struct page`` it is, and who touched it
    """

    def __init__(self, address: int, message: str, *, hint: str = "") -> None:
        super().__init__(f"unable to handle kernel paging request at {address:08x}: {message}", hint=hint)
        self.address = address
