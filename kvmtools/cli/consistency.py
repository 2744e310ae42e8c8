"""What was read while the guest ran must say so: in JSON as a key, in text as a note on stderr."""

from __future__ import annotations

from kvmtools.cli.output import note
from kvmtools.cli.session import Session

RAN = "read while the guest ran: what changed meanwhile may look wrong"


def consistency(session: Session, form: str) -> dict[str, str]:
    """``{"consistency": ...}`` for a document if the guest ran while it was read, else nothing; text gets a note."""
    if not any(pause.was_running and not pause.held for pause in session.pauses):
        return {}
    if form == "text":
        note(RAN)
    return {"consistency": RAN}
