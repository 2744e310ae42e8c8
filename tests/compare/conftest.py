"""``recorded``: a test that takes it runs once for each guest in ``fixtures/guests`` (README there)."""

from __future__ import annotations

import pytest
from recorded_guest import RecordedGuest, load


@pytest.fixture(params=["pae", "nopae"])
def recorded(request: pytest.FixtureRequest) -> RecordedGuest:
    """Each of the recorded guests in turn, fresh for every test."""
    return load(request.param)
