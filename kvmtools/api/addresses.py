"""Addresses as a script writes them: a number, or a text as the command line takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

from kvmtools.show.addresses import virtual_address

if TYPE_CHECKING:
    from kvmtools.observe.kernel import Kernel

Address: TypeAlias = SupportsIndex | str
"""NumPy's integers are numbers, too."""


def spelled(address: Address) -> str:
    """The address as a text."""
    return address if isinstance(address, str) else hex(address)


def virtual(kernel: Kernel, address: Address, *, is_end: bool = False) -> int:
    """The virtual address that is meant.

    :param is_end: whether it is the first one behind a range
    :raises UsageError: if it is none
    """
    return virtual_address(spelled(address), kernel.address, kernel.architecture.word_bits, is_end=is_end)
