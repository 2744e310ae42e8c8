"""``kvmtools.open()`` that finds a test's own guest, whatever target is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from recorded_guest import RecordedGuest, load
from whole_memory import WholeMemory

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session
from kvmtools.attach.monitor.pause import NoPause
from kvmtools.observe.kernel import Kernel


def always_opens(monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
    """Every command and every ``kvmtools.open()`` gets this session from now on."""

    def open_kernel(**options: Any) -> OpenKernel:
        return OpenKernel(session, demand_gdb=options.get("gdb") is not None)

    monkeypatch.setattr("kvmtools.api.opening.open_kernel", open_kernel)


def recorded_session(name: str) -> Session:
    """A recorded guest (``fixtures/guests``), ``pae`` or ``nopae``, as if it were a core."""
    guest = load(name)
    return session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot)), f"core {name}")


def session_of(guest: RecordedGuest, kernel: Kernel, description: str = "core recorded") -> Session:
    """The same of a guest as a test has left it."""
    target = SimpleNamespace(
        monitor=None,
        description=description,
        transport="a recording",
        registers=lambda: guest.registers,
        paused=lambda: NoPause(was_running=False),
        close=lambda: None,
    )
    return Session(target, kernel)  # type: ignore[arg-type]
