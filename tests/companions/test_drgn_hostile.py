"""What a guest calls itself is text to drgn's prompt, too: in warnings of the plugin and in errors of its commands."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drgn import Program
from drgn.commands import CommandError, run_command
from hostile_text import ALL, harmless

from kvmtools.companions.drgn import adoption, commands, symbols
from kvmtools.errors import AttachError, SymbolsError
from kvmtools.observe.program import OURS

TEXTS = ["\x1b[31m", "\x9b31m", ALL]


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("drgn"), "propagate", True)
    caplog.set_level(logging.WARNING, "drgn")
    return caplog


def only(warned: pytest.LogCaptureFixture) -> str:
    (record,) = warned.records
    return record.getMessage()


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_guest_that_cannot_be_read(
    warned: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def refuse(_prog: object) -> None:
        raise AttachError(f"it says {text}", hint=f"look at {text}")

    monkeypatch.setattr(adoption, "adopt", refuse)
    monkeypatch.setattr(adoption, "ProgramFlags", SimpleNamespace(IS_LINUX_KERNEL=1))
    prog: Any = SimpleNamespace(flags=1)
    adoption.adopt_program(prog)
    assert only(warned).startswith("kvmtools: nothing can be read of this guest: it says ")
    assert harmless(only(warned))


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_kernel_without_a_vmlinux(
    warned: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(symbols, "_installed", lambda *_: iter(()))
    adopted: Any = SimpleNamespace(noted=SimpleNamespace(release=text), may_be_vmlinux=lambda _path: False)
    assert not symbols._Search(adopted)._found(Program())
    assert only(warned).startswith("kvmtools: missing debugging symbols for kernel ")
    assert harmless(only(warned))


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_vmlinux_of_another_kernel(warned: pytest.LogCaptureFixture, text: str) -> None:
    def refuse(_path: Path) -> None:
        raise SymbolsError(f"the guest is {text}")

    adopted: Any = SimpleNamespace(use=refuse)
    assert not symbols._Search(adopted)._load(Program(), Path("vmlinux"))
    assert only(warned).startswith("kvmtools: the guest is ")
    assert harmless(only(warned))


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_command_that_fails(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def refuse(_prog: object) -> None:
        raise SymbolsError(f"no vmlinux of {text}", hint="give one")

    monkeypatch.setattr(commands, "kernel_of", refuse)
    prog = Program()
    prog.config[OURS] = "adopted"
    with pytest.raises(CommandError, match=r"^no vmlinux of .* \(give one\)$") as raised:
        run_command(prog, "kvm-zones")
    assert harmless(str(raised.value))
