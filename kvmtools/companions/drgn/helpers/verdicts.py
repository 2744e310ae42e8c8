"""What an i386 kernel ought to look like, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drgn import Program
from drgn.helpers.common.prog import takes_program_or_default

from kvmtools.api.adopted import kernel_of

if TYPE_CHECKING:
    from kvmtools.api.layout import KernelLayout
    from kvmtools.findings import Result

__all__ = ("check_kernel", "kernel_layout")


@takes_program_or_default
def check_kernel(prog: Program, *, only: Sequence[str] = (), skip: Sequence[str] = ()) -> Result:
    """
    Compare what the kernel's memory management has with what it ought to have.

    >>> check_kernel(prog, only=["pkmap"]).summary
    'agrees with the model; 11 rules: 11 agree'

    :param only: Ids of rules, or groups of them; all if empty.
    :param skip: Those to leave out.
    :return: :class:`kvmtools.Result`; :func:`kvmtools.render` writes it.
    :raises kvmtools.UsageError: if a word names no rule
    :raises kvmtools.Inconclusive: if nothing could be compared
    """
    return kernel_of(prog).check(only=only, skip=skip)


@takes_program_or_default
def kernel_layout(prog: Program) -> KernelLayout:
    """
    Get the boundaries of the kernel's address space and memory, as the guest has them and as the model predicts them.

    >>> kernel_layout(prog)["vmalloc_start"].agrees
    True

    :return: :class:`kvmtools.KernelLayout`
    """
    return kernel_of(prog).layout()
