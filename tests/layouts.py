"""A predicted layout boundary by boundary, by the names that they have for the guest."""

from __future__ import annotations

from kvmtools.model.memory.ram import Ram
from kvmtools.model.space import layout as model_layout
from kvmtools.records import Configuration, Layout, PredictedLayout


def edges(layout: PredictedLayout) -> Layout:
    """The same, flat; ``None`` where there is no such area."""
    return Layout(**dict(layout.items()))


def predict(configuration: Configuration, ram: Ram | None = None) -> Layout:
    """What the model predicts, flat."""
    return edges(model_layout.predict(configuration, ram))
