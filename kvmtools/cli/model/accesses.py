"""``--access``: the words for an access, and a processor that makes it."""

from __future__ import annotations

from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from kvmtools.errors import UsageError
from kvmtools.model.paging.access import Access, AccessFault, Control, access, load_cr3
from kvmtools.model.paging.forms import PagingForm
from kvmtools.model.paging.physical import Memory

_KINDS = ("read", "write", "fetch")
_SWITCHES = {"smep": ("smep", True), "smap": ("smap", True), "ac": ("ac", True), "no-wp": ("wp", False)}
WORDS = (*_KINDS, "user", *_SWITCHES)


class AccessRequest(NamedTuple):
    """What is to be done, by whom, and which control bits are other than those of the tables."""

    kind: str
    user: bool
    switches: dict[str, bool]
    text: str


def attempt_of(text: str) -> AccessRequest:
    """The access that a list of :data:`WORDS` with commas describes.

    :raises UsageError: if a word is none of them, or two say what is done
    """
    words = text.split(",")
    for word in words:
        if word not in WORDS:
            raise UsageError(f"--access: {word!r} is not one of {', '.join(WORDS)}")
    kinds = [kind for kind in _KINDS if kind in words]
    if len(kinds) > 1:
        raise UsageError(f"--access: it is one of {' and '.join(kinds)}, not both")
    switches = dict(_SWITCHES[word] for word in words if word in _SWITCHES)
    return AccessRequest(kinds[0] if kinds else "read", "user" in words, switches, text)


def complete_attempt(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The words that may follow those before the last comma."""
    before, comma, begun = incomplete.rpartition(",")
    said = before.split(",")
    taken = {*said, *(_KINDS if any(kind in said for kind in _KINDS) else ())}
    words = (word for word in WORDS if word not in taken and word.startswith(begun))
    return [CompletionItem(before + comma + word) for word in words]


class Processor:
    """One that has loaded CR3 and from then on makes the same access at address after address."""

    def __init__(
        self, memory: Memory, cr3: int, form: PagingForm, attempt: AccessRequest, control: Control
    ) -> None:
        self._memory = memory
        self._form = form
        self._attempt = attempt
        self._control = control._replace(**attempt.switches)
        self._root = load_cr3(memory.read, cr3, form)

    def access(self, virtual: int) -> Access | AccessFault:
        """Make the access; if CR3 could not be loaded it is that exception over and over."""
        if isinstance(self._root, AccessFault):
            return self._root
        return access(
            self._memory,
            self._root,
            virtual,
            self._form,
            write=self._attempt.kind == "write",
            fetch=self._attempt.kind == "fetch",
            user=self._attempt.user,
            control=self._control,
        )
