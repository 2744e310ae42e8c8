"""The exceptions a caller may meet, one small tree; each says what to do next.

::

    KvmtoolsError                 exit 4
    ├── UsageError                exit 2   the request makes no sense: change the command
    ├── AttachError               exit 3   no way to the guest: change the target
    │   ├── GuestVanished         exit 3   it was there and is gone
    │   └── SymbolsError          exit 3   the vmlinux is missing, has no DWARF, or is another kernel's
    ├── OutputError               exit 3   the result cannot be written: no room, or not there
    ├── BuildError                exit 3   a kernel or an initramfs could not be made
    ├── Inconclusive              exit 5   nothing could be compared
    └── Unobserved                         one thing of the guest cannot be had; whoever needs it does without
        ├── MemoryFault           exit 3   an address with nothing behind it
        ├── Absent                exit 3   this kernel has no such symbol or type (a SymbolsError, too)
        └── NotYet                exit 5   the kernel has not come to it yet (Inconclusive, too)

A caller catches by what it can do about it: ``MemoryFault`` is an answer for a walker, ``GuestVanished`` ends a
session, ``UsageError`` goes back to the person.  The exit code is the class's, so that the command line needs no
table of its own.
"""

from __future__ import annotations

from typing import ClassVar


class KvmtoolsError(Exception):
    """Something kvmtools can explain: ``message`` in one line, ``hint`` names the way out."""

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(KvmtoolsError):
    """The request cannot be met as it was put."""

    exit_code = 2


class AttachError(KvmtoolsError):
    """There is no way to the guest, or not the one asked for."""

    exit_code = 3


class GuestVanished(AttachError):
    """The guest was reachable and is not any more."""


class SymbolsError(AttachError):
    """The vmlinux cannot serve: absent, without DWARF, or not the guest's."""


class Unobserved(KvmtoolsError):
    """One thing of the guest cannot be had: it costs what needs that thing, and nothing else."""


class Absent(SymbolsError, Unobserved):
    """The kernel has no such symbol, type, member or enumerator; ``what`` names it as C does."""

    def __init__(self, what: str, build_id: str) -> None:
        super().__init__(
            f"this vmlinux (build id {build_id}) has no {what}",
            hint="the kernel was built without it, or is of a version that kvmtools does not know",
        )
        self.what = what

    @property
    def why(self) -> str:
        """Why something is missing, for whoever goes on without it."""
        return f"this kernel has no {self.what}"


class OutputError(KvmtoolsError):
    """The result cannot be written where it is to go; nothing is left of it."""

    exit_code = 3


class BuildError(KvmtoolsError):
    """A kernel or an initramfs could not be made; ``hint`` names the log."""

    exit_code = 3


class MemoryFault(Unobserved):
    """``address`` has no memory behind it.

    :param space: which address space, ``"physical"`` or ``"virtual"``
    """

    exit_code = 3

    def __init__(self, address: int, message: str, *, space: str = "physical", hint: str = "") -> None:
        super().__init__(f"{space} address {address:#x}: {message}", hint=hint)
        self.address = address
        self.space = space


class Inconclusive(KvmtoolsError):
    """Nothing could be compared, so neither agreement nor discrepancy was shown."""

    exit_code = 5


class NotYet(Inconclusive, Unobserved):
    """The kernel has not come to the point where it sets this up; ``message`` says how far it is."""
