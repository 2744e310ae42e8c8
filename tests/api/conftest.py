"""A recorded guest, opened as a script opens it."""

from __future__ import annotations

import pytest
from opened_kernel import always_opens, recorded_session

import kvmtools


@pytest.fixture(params=["pae", "nopae"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> kvmtools.OpenKernel:
    """Each of the recorded guests in turn; the commands find it, too."""
    always_opens(monkeypatch, recorded_session(request.param))
    return kvmtools.open(guest=request.param)
