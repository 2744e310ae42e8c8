"""What was read while the guest ran must say so: in JSON as a key, in text as a note on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmtools.cli.output import note

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel

RAN = "read while the guest ran: what changed meanwhile may look wrong"


def consistency(kernel: OpenKernel, form: str) -> dict[str, str]:
    """``{"consistency": ...}`` for a document if the guest ran while it was read, else nothing; text gets a note."""
    if not kernel.read_while_running:
        return {}
    if form == "text":
        note(RAN)
    return {"consistency": RAN}
