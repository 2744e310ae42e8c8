"""Why a kernel that can be described would not boot: said beside whatever a command tells of it."""

from __future__ import annotations

from kvmtools.cli.output import note
from kvmtools.model import budget
from kvmtools.model.prediction import Prediction


def refusal(prediction: Prediction) -> str:
    """Why a kernel that has all this space laid out would not boot; empty if nothing speaks against it."""
    configuration = prediction.configuration
    kind = budget.SPARSEMEM if configuration.sparsemem else budget.FLATMEM
    return budget.budget(configuration, kind).refusal


def note_refusal(who: str, prediction: Prediction) -> None:
    """Say so on stderr, if there is a reason."""
    if why := refusal(prediction):
        note(f"{who} would not boot: {why}")
