"""``kvmtools.model`` offers four names, each loaded when it is asked for."""

from __future__ import annotations

import pytest

import kvmtools.model
from kvmtools.model import eras, machine, prediction


def test_each_name_is_that_of_its_module() -> None:
    assert kvmtools.model.ERAS is eras.NAMES
    assert kvmtools.model.configuration is machine.configuration
    assert kvmtools.model.predict is prediction.predict
    assert kvmtools.model.Prediction is prediction.Prediction


def test_they_are_listed() -> None:
    assert dir(kvmtools.model) == sorted(kvmtools.model.__all__)


def test_there_is_no_other() -> None:
    with pytest.raises(AttributeError, match=r"'kvmtools\.model' has no attribute 'forecast'"):
        _ = kvmtools.model.forecast  # type: ignore[attr-defined]
