"""Whom to believe about KVM: nobody, until it has printed a letter; then for one boot of the host."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kvmtools.boot.host import accelerator, detached, qemu
from kvmtools.boot.host.accelerator import Verdict
from kvmtools.errors import AttachError, UsageError

WORKS = Verdict(True, "it printed")
MUTE = Verdict(False, "a test guest printed nothing")


class Host:
    """A host whose KVM is as the test says; counts how often it was tried."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device, self.boot_id, self.verdict = root / "kvm", root / "boot_id", MUTE
        self.device.touch()
        self.boot_id.write_text("first\n")
        self.probes = 0
        self.said: list[str] = []
        monkeypatch.setattr(accelerator, "DEVICE", self.device)
        monkeypatch.setattr(accelerator, "BOOT_ID", self.boot_id)
        monkeypatch.setattr(accelerator, "probe", self.probe)
        self.qemu = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"
        monkeypatch.setattr(qemu, "version", lambda: self.qemu)
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))

    def probe(self, name: str) -> Verdict:
        assert name == "kvm"
        self.probes += 1
        return self.verdict

    def resolve(self, wanted: str) -> str:
        return accelerator.resolve(wanted, self.said.append)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_auto_takes_kvm_if_it_boots(host: Host) -> None:
    host.verdict = WORKS
    assert host.resolve("auto") == "kvm"
    assert host.resolve("kvm") == "kvm"


def test_auto_falls_back_and_says_why(host: Host) -> None:
    assert host.resolve("auto") == "tcg"
    assert any(MUTE.reason in line for line in host.said)


def test_kvm_by_name_does_not_fall_back(host: Host) -> None:
    with pytest.raises(AttachError, match="printed nothing"):
        host.resolve("kvm")


def test_tcg_asks_nobody(host: Host) -> None:
    assert host.resolve("tcg") == "tcg"
    assert host.probes == 0
    assert host.said == []


def test_unknown_names_are_refused(host: Host) -> None:
    with pytest.raises(UsageError, match="auto, tcg, kvm"):
        host.resolve("hvf")


@pytest.mark.parametrize("verdict", [WORKS, MUTE])
def test_the_verdict_is_remembered_until_the_host_boots_again_or_has_another_qemu(
    host: Host, verdict: Verdict
) -> None:
    host.verdict = verdict
    first = host.resolve("auto")
    assert host.resolve("auto") == first
    assert host.probes == 1
    host.boot_id.write_text("second\n")
    host.resolve("auto")
    assert host.probes == 2
    host.qemu = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-8)"
    host.resolve("auto")
    assert host.probes == 3
    host.resolve("auto")
    assert host.probes == 3


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot_id": "first"}'])
def test_a_verdict_that_cannot_be_read_is_found_anew(host: Host, text: str) -> None:
    host.resolve("auto")
    (remembered,) = (host.device.parent / "cache" / "kvmtools").iterdir()
    remembered.write_text(text)
    assert host.resolve("auto") == "tcg"
    assert host.probes == 2


def test_a_verdict_that_cannot_be_kept_holds_all_the_same(host: Host) -> None:
    (host.device.parent / "cache").write_text("a file where the folder should be")
    assert host.resolve("auto") == "tcg"
    assert host.resolve("auto") == "tcg"
    assert host.probes == 2


def test_without_the_device_nothing_is_tried(host: Host) -> None:
    host.device.unlink()
    assert host.resolve("auto") == "tcg"
    assert host.probes == 0
    with pytest.raises(AttachError, match="there is no"):
        host.resolve("kvm")


def test_the_floppy_has_the_bios_signature_and_a_whole_disks_length() -> None:
    assert len(accelerator._FLOPPY) == 1440 * 1024
    assert accelerator._FLOPPY[510:512] == b"\x55\xaa"


def test_a_comma_in_a_path_of_the_probe_is_no_end_of_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []

    def refuse(command: tuple[str, ...], log: Path) -> tuple[int, int]:
        started.append(command)
        raise FileNotFoundError

    (tmp_path / "a,b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a,b"))
    monkeypatch.setattr(detached, "spawn_detached", refuse)
    with pytest.raises(FileNotFoundError):
        accelerator.probe("tcg")
    (command,) = started
    assert sum(f"{tmp_path}/a,,b/" in word for word in command) == 2
    assert not any(f"{tmp_path}/a,b/" in word for word in command)


def test_the_version_of_qemu_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert qemu.version().startswith("QEMU emulator version ")
    assert "\n" not in qemu.version()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert qemu.version() == ""


def test_a_probe_that_is_interrupted_as_it_starts_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn, started = detached.spawn_detached, []

    def interrupted(command: tuple[str, ...], log: Path) -> tuple[int, int]:
        started.append(spawn(["sleep", "60"], log))
        signal.raise_signal(signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(detached, "spawn_detached", interrupted)
    with pytest.raises(KeyboardInterrupt):
        accelerator.probe("tcg")
    ((pid, ticks),) = started
    alive = detached.is_alive(pid, ticks)
    detached.end(pid, ticks, patience=0)
    assert not alive
