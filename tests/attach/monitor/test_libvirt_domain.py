"""What becomes of libvirt's answers and refusals, by either carrier; a real libvirtd is in tests/live."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kvmtools.api.guests import libvirt_domains
from kvmtools.attach.monitor import libvirt_carrier, libvirt_domain
from kvmtools.attach.monitor.libvirt_domain import LibvirtMonitor
from kvmtools.attach.monitor.pause import PausedGuest
from kvmtools.errors import AttachError, GuestVanished

UUID = "54a620b0-6935-47de-9e49-b3b767ba30f7"
ANSWERS = {"info uuid": f"{UUID}\r\n", "info status": "VM status: paused\r\n"}
REFUSALS = {
    "none": ("Domain not found: no domain with matching name 'none'", "virsh list names those that run"),
    "off": ("Requested operation is not valid: domain is not running", "virsh start runs it"),
    "lost": (
        "Failed to connect socket to '/run/libvirt-sock': No such file or directory",
        "does libvirtd run?",
    ),
    "theirs": ("Failed to connect socket to '/run/libvirt-sock': Permission denied", "run as its user"),
    "polkit": ("authentication unavailable: no polkit agent available", "run as its user"),
    "test": ("this function is not supported by the connection driver: x", "only QEMU's domains"),
    "other": ("something that nobody has seen yet", ""),
}
VIRSH = """#!/bin/sh
echo "$@" >>"$0.calls"
refuse() { echo "error: $(cat "$1")" >&2; exit 1; }
for each in none off lost theirs polkit test other; do
    case "$*" in *"=$each "*) refuse "$0.$each" ;; esac
done
case "$*" in
*'list --name') printf 'pae\\nnopae\\n\\n' ;;
*'info uuid') printf 'UUID\\r\\n\\n' ;;
*'info status') [ ! -e "$0.gone" ] || refuse "$0.gone"; printf 'VM status: paused\\r\\n' ;;
esac
"""


class Virsh:
    """A program that answers as virsh does."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.path = folder / "virsh"
        self.path.write_text(VIRSH.replace("UUID", UUID))
        self.path.chmod(0o755)
        for name, (why, _) in REFUSALS.items():
            self.path.with_suffix(f".{name}").write_text(f"{why}\n")
        patch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        patch.setitem(sys.modules, "libvirt", None)

    def refuse(self, why: str) -> None:
        self.path.with_suffix(".gone").write_text(f"{why}\n")

    def calls(self) -> list[str]:
        return self.path.with_suffix(".calls").read_text().splitlines()


class Bindings:
    """Modules that answer as libvirt's do."""

    class LibvirtError(Exception):
        """``libvirt.libvirtError``."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.why = ""
        self.closed = 0
        self.handlers: list[Any] = []
        libvirt: Any = ModuleType("libvirt")
        libvirt.libvirtError = self.LibvirtError
        libvirt.registerErrorHandler = lambda handler, _: self.handlers.append(handler)
        libvirt.open = self.open
        qemu: Any = ModuleType("libvirt_qemu")
        qemu.qemuMonitorCommand = self.ask
        patch.setitem(sys.modules, "libvirt", libvirt)
        patch.setitem(sys.modules, "libvirt_qemu", qemu)

    def refuse(self, why: str) -> None:
        self.why = why

    def open(self, uri: str | None) -> Any:
        if uri == "none://":
            raise self.LibvirtError("no connection driver available")
        return self

    def close(self) -> None:
        self.closed += 1

    def lookupByID(self, number: int) -> str:
        return {7: "pae"}[number]

    def lookupByUUIDString(self, uuid: str) -> str:
        if uuid != UUID:
            raise self.LibvirtError("invalid argument")
        return "pae"

    def lookupByName(self, name: str) -> str:
        if name in REFUSALS:
            raise self.LibvirtError(REFUSALS[name][0])
        return name

    def ask(self, domain: str, line: str, flags: int) -> str:
        assert (domain, flags) == ("pae", 1)
        if self.why and line != "info uuid":
            raise self.LibvirtError(self.why)
        return ANSWERS[line]


@pytest.fixture(params=["virsh", "bindings"])
def libvirt(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Virsh | Bindings:
    return Virsh(tmp_path, monkeypatch) if request.param == "virsh" else Bindings(monkeypatch)


@pytest.mark.usefixtures("libvirt")
def test_questions_and_answers() -> None:
    with LibvirtMonitor("pae", "qemu:///session") as monitor:
        assert monitor.address == "libvirt domain pae of qemu:///session"
        assert monitor.resumes == "virsh resume pae"
        assert monitor.hmp("info status") == "VM status: paused\n"
        assert not monitor.running()
        with monitor.again(1.0) as another:
            assert another.address == monitor.address


def test_virsh_is_told_which_domain_of_which_libvirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virsh = Virsh(tmp_path, monkeypatch)
    LibvirtMonitor("pae", "qemu:///session").close()
    LibvirtMonitor("pae").close()
    assert virsh.calls() == [
        "--quiet --connect qemu:///session qemu-monitor-command --domain=pae --hmp -- info uuid",
        "--quiet qemu-monitor-command --domain=pae --hmp -- info uuid",
    ]


@pytest.mark.parametrize("word", ["7", UUID, "pae"])
def test_the_bindings_take_what_virsh_takes(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    bindings = Bindings(monkeypatch)
    LibvirtMonitor(word).close()
    assert bindings.closed == 1
    assert [handler(None, "told to nobody") for handler in bindings.handlers] == [None]


@pytest.mark.parametrize("name", REFUSALS)
def test_why_there_is_no_way(libvirt: Virsh | Bindings, name: str) -> None:
    why, hint = REFUSALS[name]
    with pytest.raises(AttachError) as caught:
        LibvirtMonitor(name)
    assert type(caught.value) is AttachError
    assert caught.value.message == f"libvirt domain {name}: {why}"
    assert caught.value.hint.startswith(hint)
    assert bool(caught.value.hint) == bool(hint)
    assert not isinstance(libvirt, Bindings) or libvirt.closed == 1


def test_a_libvirt_that_the_bindings_cannot_open(monkeypatch: pytest.MonkeyPatch) -> None:
    Bindings(monkeypatch)
    with pytest.raises(AttachError, match="libvirt domain pae of none://: no connection driver available"):
        LibvirtMonitor("pae", "none://")


@pytest.mark.parametrize(
    ("why", "gone"),
    [
        ("Requested operation is not valid: domain is not running", True),
        ("Unable to read from monitor: Connection reset by peer", True),
        ("internal error: End of file from qemu monitor", True),
        ("Domain not found: no domain with matching uuid", True),
        ("Timed out during operation: cannot acquire state change lock (held by monitor=x)", False),
        ("Failed to connect socket to '/run/x': Connection refused", False),
    ],
)
def test_a_guest_is_gone_only_if_libvirt_says_so(libvirt: Virsh | Bindings, why: str, gone: bool) -> None:
    with LibvirtMonitor("pae") as monitor:
        libvirt.refuse(why)
        with pytest.raises(AttachError) as caught:
            monitor.running()
    assert isinstance(caught.value, GuestVanished) == gone
    assert why in str(caught.value)


def test_neither_of_the_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        AttachError, match=r"the program virsh is not installed \(apt install libvirt-clients\)"
    ):
        LibvirtMonitor("pae")
    assert libvirt_domains() == []


def test_a_virsh_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Virsh(tmp_path, monkeypatch).path.write_text("#!/bin/sh\nexec sleep 1000\n")
    monkeypatch.setattr(libvirt_carrier, "_SECONDS", 0.2)
    with pytest.raises(AttachError, match=r"virsh did not answer within 0\.2 s"):
        LibvirtMonitor("pae")


def test_the_domains_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virsh = Virsh(tmp_path, monkeypatch)
    assert libvirt_domains("qemu:///system") == ["pae", "nopae"]
    assert virsh.calls() == ["--quiet --connect qemu:///system list --name"]


def test_the_process_has_the_uuid_behind_its_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Virsh(tmp_path, monkeypatch)
    with LibvirtMonitor("pae") as monitor:
        with pytest.raises(AttachError, match=f"no process of this host with UUID {UUID}"):
            monitor.peer_pid()
        for words in (["-uuid", UUID], ["-uuid", UUID], ["-name", UUID], ["-uuid", f"{UUID}0"]):
            _process(tmp_path / "proc", words)
        monkeypatch.setattr(libvirt_domain, "_PROC", tmp_path / "proc")
        with pytest.raises(AttachError, match=f"2 processes of this host with UUID {UUID}"):
            monitor.peer_pid()
        (tmp_path / "proc/2/cmdline").unlink()
        assert monitor.peer_pid() == 1


def _process(proc: Path, words: list[str]) -> None:
    folder = proc / str(len(list(proc.iterdir())) + 1 if proc.exists() else 1)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(
        b"qemu-system-i386\0-S\0" + b"".join(f"{word}\0".encode() for word in words)
    )


def test_ctrl_c_is_not_virsh_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole foreground group of the terminal gets it; who has to let the guest run needs virsh still."""
    virsh = Virsh(tmp_path, monkeypatch)
    virsh.path.write_text('#!/bin/sh\ncut -d" " -f5 /proc/$$/stat\n')
    assert int(libvirt_carrier.Virsh(None).ask("pae", "x")) != os.getpgid(0)


SLOW = """#!/bin/sh
case "$*" in
*'info status') echo 'VM status: running' ;;
*stop) kill -INT $PPID; sleep 0.3; yes | head -c 200000; echo stop >>"$0.done" ;;
*cont) echo cont >>"$0.done" ;;
esac
"""


def test_a_signal_s_cont_does_not_overtake_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virsh = Virsh(tmp_path, monkeypatch)
    virsh.path.write_text(SLOW)
    with LibvirtMonitor("pae") as monitor, pytest.raises(KeyboardInterrupt) as caught, PausedGuest(monitor):
        pass
    assert getattr(caught.value, "__notes__", []) == []
    assert virsh.path.with_suffix(".done").read_text().split()[:2] == ["stop", "cont"]


def test_a_stop_that_never_ends_does_not_keep_cont_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    virsh = Virsh(tmp_path, monkeypatch)
    virsh.path.write_text(SLOW.replace("sleep 0.3", "exec sleep 1000"))
    monkeypatch.setattr(libvirt_carrier, "_OVERTAKING", 0.1)
    with LibvirtMonitor("pae") as monitor, pytest.raises(KeyboardInterrupt), PausedGuest(monitor):
        pass
    assert virsh.path.with_suffix(".done").read_text().split()[:1] == ["cont"]
