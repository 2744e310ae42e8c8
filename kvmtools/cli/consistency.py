"""What is not as usual is said, as a JSON key or a note: a panic, a boot under way, a guest that ran while read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmtools.cli.output import note

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel

RAN = "read while the guest ran: what changed meanwhile may look wrong"


def consistency(kernel: OpenKernel, form: str) -> dict[str, str]:
    """``{"state": ...}`` if the kernel has panicked or is still booting, ``{"consistency": ...}`` if the guest ran
    while it was read, for a document; text gets notes.
    """
    said = {}
    if state := kernel.state:
        said["state"] = state
    if kernel.read_while_running:
        said["consistency"] = RAN
    if form == "text":
        for line in said.values():
            note(f"the kernel: {line}" if line == state else line)
    return said
