"""Which guest is opened, and that whatever goes wrong lets go of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import kvmtools
from kvmtools.api.session import Session


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``open_target`` was asked for, each time; its memory is empty, and it notes that it is closed."""
    asked: list[dict[str, Any]] = []

    def open_target(**options: Any) -> Any:
        asked.append(options)
        return SimpleNamespace(
            vmlinux=options.get("vmlinux"),
            recording=None,
            memory=SimpleNamespace(ranges=()),
            vmcoreinfo=lambda: None,
            registers=lambda: (),
            close=lambda: options.update(closed=True),
        )

    monkeypatch.setattr("kvmtools.attach.open.open_target", open_target)
    return asked


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The guests that run: none, until a test adds some."""
    found: list[SimpleNamespace] = []
    monkeypatch.setattr("kvmtools.boot.guests.registry.all_guests", lambda: found)
    monkeypatch.setattr(
        "kvmtools.boot.guests.registry.find",
        lambda name: next(guest for guest in found if guest.name == name),
    )
    return found


def guest(name: str) -> SimpleNamespace:
    return SimpleNamespace(
        name=name,
        qmp=Path("qmp"),
        gdb=Path("gdb"),
        ram=Path("ram"),
        vmlinux=Path("no-such-vmlinux"),
        console=Path("console.log"),
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guest": "pae", "qemu": "q"}, "guest and qemu name two targets"),
        ({"qemu": "q", "core": "c"}, "qemu and core name two targets"),
        ({"qemu": "q", "libvirt": "l"}, "qemu and libvirt name two targets"),
        ({"libvirt": "l", "core": "c"}, "libvirt and core name two targets"),
        ({"connect": "qemu:///session"}, "connect goes with libvirt"),
        ({"qemu": "q", "connect": "qemu:///session"}, "connect goes with libvirt"),
        ({"core": "c", "gdb": "g"}, "core and gdb name two targets"),
        ({"guest": "pae", "gdb": "g"}, "guest and gdb name two targets"),
    ],
)
def test_one_target_is_named(opened: list[dict[str, Any]], options: dict[str, Any], said: str) -> None:
    with pytest.raises(kvmtools.UsageError, match=said):
        kvmtools.open(**options)
    assert opened == []


def test_the_guest_that_runs_is_meant_if_none_is_named(
    opened: list[dict[str, Any]], guests: list[SimpleNamespace]
) -> None:
    with pytest.raises(kvmtools.AttachError, match="no guest of ours runs"):
        kvmtools.open()
    guests.append(guest("one"))
    with pytest.raises(kvmtools.SymbolsError):
        kvmtools.open()
    assert opened[-1]["qemu"] == "qmp"
    assert opened[-1]["ram"] == Path("ram")
    assert opened[-1]["gdb"] == "gdb"
    assert not opened[-1]["demand_gdb"]
    guests.append(guest("two"))
    with pytest.raises(kvmtools.UsageError, match="several guests run: one, two"):
        kvmtools.open()


def test_what_is_said_reaches_the_target(opened: list[dict[str, Any]]) -> None:
    domain = {"libvirt": "pae", "connect": "qemu:///session"}
    for options in ({"core": "core"}, {"qemu": "q", "gdb": "g", "pause": False}, domain):
        with pytest.raises(kvmtools.SymbolsError, match="no Linux kernel is recognised"):
            kvmtools.open(**options)
    core, qemu, libvirt = opened
    assert domain.items() <= libvirt.items()
    assert core["core"] == Path("core")
    assert (qemu["qemu"], qemu["gdb"], qemu["pause"]) == ("q", "g", False)
    assert qemu.get("demand_gdb", True)


def test_a_guest_is_let_go_if_its_kernel_is_not_found(opened: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"no ELF")
    for symbols in (None, tmp_path / "vmlinux", str(tmp_path / "missing")):
        with pytest.raises(kvmtools.SymbolsError):
            kvmtools.open(qemu="q", symbols=symbols)
        assert opened[-1]["closed"]


def test_the_answers_of_the_vmlinux_are_kept_and_the_guest_let_go() -> None:
    done: list[str] = []

    def save() -> None:
        done.append("saved")
        raise OSError("disk full")

    kernel = SimpleNamespace(vmlinux=SimpleNamespace(save=save))
    session = SimpleNamespace(kernel=kernel, target=SimpleNamespace(close=lambda: done.append("closed")))
    with pytest.raises(OSError, match="disk full"):
        kvmtools.OpenKernel(session).close()  # type: ignore[arg-type]
    assert done == ["saved", "closed"]


def test_a_result_says_that_the_guest_panicked(tmp_path: Path) -> None:
    """As far as its console is known: that of a guest of ours."""
    target: Any = SimpleNamespace(
        monitor=SimpleNamespace(resumes="cont"), description="QEMU", transport="qmp"
    )
    log = tmp_path / "console.log"
    log.write_text("[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n")
    kernel: Any = None
    assert Session(target, kernel, console=log).live([])["panic"].endswith("VFS: Unable to mount root fs")
    assert "panic" not in Session(target, kernel).live([])
    log.write_text("[    1.0] Freeing unused kernel memory\r\n")
    assert "panic" not in Session(target, kernel, console=log).live([])
