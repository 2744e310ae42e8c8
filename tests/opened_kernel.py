"""``kvmtools.open()`` that finds a test's own guest, whatever target is named."""

from __future__ import annotations

from typing import Any

import pytest

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session


def always_opens(monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
    """Every command and every ``kvmtools.open()`` gets this session from now on."""

    def open_kernel(**options: Any) -> OpenKernel:
        return OpenKernel(session, demand_gdb=options.get("gdb") is not None)

    monkeypatch.setattr("kvmtools.api.opening.open_kernel", open_kernel)
