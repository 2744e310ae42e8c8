"""A domain of a real libvirtd: attached to, left as it was, and libvirtd with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import documented
import pytest
from libvirt_session import LibvirtSession, NoLibvirt, domain, libvirt_session, runs

from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.monitor import libvirt_domain
from kvmtools.attach.monitor.gdbstub import served
from kvmtools.attach.monitor.libvirt_domain import LibvirtMonitor
from kvmtools.attach.open import open_target
from kvmtools.boot.kernels import reference
from kvmtools.errors import GuestVanished

READY = "kvmtools: ready"
KVMTOOLS = str(Path(sys.executable).with_name("kvmtools"))
FOUR_GIB = 1 << 32
BINDINGS = Path("/usr/lib/python3/dist-packages")
"""Where Debian has libvirt's, for its own Python."""


@pytest.fixture(scope="module")
def vmlinux() -> Path:
    return reference.ensure("pae", progress=print).vmlinux


@pytest.fixture(scope="module")
def session() -> Iterator[LibvirtSession]:
    """A libvirtd with our PAE kernel in the domain ``pae``: half of its 512 MiB is above 4 GiB."""
    try:
        with libvirt_session() as session:
            _boot(session)
            yield session
            pids = [session.daemon.pid, session.pid("pae")]
    except NoLibvirt as reason:
        pytest.skip(str(reason))
    assert not session.folder.exists()
    assert not any(runs(pid) for pid in pids)


def _boot(session: LibvirtSession) -> None:
    kernel = reference.ensure("pae", progress=print)
    console = session.folder / "console"
    boots = f"<kernel>{kernel.bzimage}</kernel><initrd>{kernel.initrd}</initrd>"
    boots += "<cmdline>console=ttyS0 tsc=reliable userpte=nohigh</cmdline>"
    split = ("-machine", "max-ram-below-4g=256M")
    own = ("-qmp", f"unix:{session.folder}/own.sock,server=on,wait=off")
    xml = domain("pae", memory=512, os_body=boots, options=(*split, *own), console=console)
    session.create(xml)
    deadline = time.monotonic() + 120
    while not console.exists() or READY not in console.read_text(errors="replace"):
        assert time.monotonic() < deadline, console.read_text(errors="replace")[-2000:]
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def all_is_as_it_was(session: LibvirtSession) -> Iterator[None]:
    """Whatever was done: libvirtd lives, the guest runs, and no other domain is left."""
    yield
    assert session.daemon.poll() is None, "libvirtd ended"
    assert session.virsh("domstate", "pae") == "running"
    assert session.domains() == ["pae"]


@pytest.fixture
def folder(tmp_path: Path, vmlinux: Path) -> Path:
    (tmp_path / "vmlinux").symlink_to(vmlinux)
    return tmp_path


@pytest.fixture
def small(session: LibvirtSession) -> Iterator[str]:
    """A domain that only runs its firmware, in a file that others may map."""
    session.create(
        domain(
            "small",
            memory=64,
            body="<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>",
        )
    )
    yield "small"
    if "small" in session.domains():
        session.virsh("destroy", "small")


@pytest.fixture(params=["virsh", "bindings"])
def carrier(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment in which one of the two is used."""
    if request.param == "virsh":
        return {}
    path = tmp_path / "bindings"
    path.mkdir()
    for file in BINDINGS.glob("libvirt*"):
        (path / file.name).symlink_to(file)
    environment = {"PYTHONPATH": str(path)}
    tried = [sys.executable, "-c", "import libvirt_qemu"]
    if subprocess.run(tried, env={**os.environ, **environment}, capture_output=True).returncode != 0:
        pytest.skip("this Python has no libvirt bindings (Debian's own: python3-libvirt)")
    return environment


def test_the_line_of_the_page(session: LibvirtSession, folder: Path, carrier: dict[str, str]) -> None:
    (line,) = documented.sections()["libvirt"]
    done = documented.run(line, folder, LIBVIRT_DEFAULT_URI=session.uri, **carrier)
    (transport,) = (row for row in done.stdout.splitlines() if row.startswith("transport"))
    assert transport.startswith("transport  proc-mem (proved against xp: 8 pages, 4 above 4 GiB")
    assert "not used" not in transport


def test_the_process_is_the_one_that_libvirtd_started(session: LibvirtSession) -> None:
    with LibvirtMonitor("pae", session.uri) as monitor:
        assert monitor.peer_pid() == session.pid("pae")
        assert monitor.running()
        with monitor.again(1) as another:
            assert another.version() == monitor.version()


def test_a_domain_by_its_number_and_by_its_uuid(session: LibvirtSession, carrier: dict[str, str]) -> None:
    script = (
        "import sys; from kvmtools.attach.monitor.libvirt_domain import LibvirtMonitor as Monitor;"
        "print(*(Monitor(word, sys.argv[1]).status() for word in sys.argv[2:]))"
    )
    words = [session.uri, session.virsh("domid", "pae"), session.virsh("domuuid", "pae")]
    environment = {**os.environ, **carrier}
    done = subprocess.run(
        [sys.executable, "-c", script, *words], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("running running\n", "")


def test_a_guest_that_was_paused_stays_paused(
    session: LibvirtSession, folder: Path, carrier: dict[str, str]
) -> None:
    (line,) = documented.sections()["libvirt"]
    session.virsh("suspend", "pae")
    try:
        done = documented.run(line, folder, LIBVIRT_DEFAULT_URI=session.uri, **carrier)
        assert "the guest was paused before, and stays so; virsh resume pae lets it run" in done.stdout
        assert session.virsh("domstate", "pae") == "paused"
    finally:
        session.virsh("resume", "pae")


NOTING_VIRSH = """#!/bin/sh
for last; do :; done
echo "$last" >>{noted}
exec {virsh} "$@"
"""


@pytest.mark.parametrize("question", ["info uuid", "info mtree -f", "stop", "info registers -a", "cont"])
def test_a_check_that_is_interrupted_leaves_the_guest_running(
    session: LibvirtSession, folder: Path, question: str
) -> None:
    noted = folder / "noted"
    noted.touch()
    (folder / "virsh").write_text(NOTING_VIRSH.format(noted=noted, virsh=shutil.which("virsh")))
    (folder / "virsh").chmod(0o755)
    command = [KVMTOOLS, "check", "--libvirt", "pae", "--connect", session.uri, "-s", "vmlinux"]
    # A terminal's Ctrl-C goes to the whole foreground group: virsh, too, if it were in it.
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as check:
        while question not in noted.read_text().splitlines():
            assert check.poll() is None
            time.sleep(0.002)
        os.killpg(check.pid, signal.SIGINT)
        _, complaint = check.communicate(timeout=60)
    state = session.virsh("domstate", "pae")
    if state != "running":  # one failure is one: the others need the guest
        session.virsh("resume", "pae")
    assert check.returncode in (-signal.SIGINT, 128 + signal.SIGINT), complaint
    assert b"Traceback" not in complaint, complaint
    asked = noted.read_text().splitlines()
    assert asked.count("stop") <= asked.count("cont")
    assert state == "running"


def test_memory_in_a_file_is_mapped(session: LibvirtSession, small: str) -> None:
    with open_target(libvirt=small, connect=session.uri) as target:
        assert target.transport.startswith("ram-file (proved against xp: ")
        assert target.description.endswith(f"at libvirt domain {small} of {session.uri}: 2 vCPUs, 64 MiB")


def test_a_qemu_of_another_host_is_read_through_its_monitor(
    session: LibvirtSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(libvirt_domain, "_PROC", tmp_path)
    with open_target(libvirt="pae", connect=session.uri) as target:
        assert target.memory.name == "xp"
        uuid = session.virsh("domuuid", "pae")
        assert (
            f"not used: no process of this host with UUID {uuid} (run on the host of its QEMU)"
            in target.transport
        )
        assert len(target.memory.read(FOUR_GIB, 64)) == 64


def test_a_domain_that_is_destroyed_meanwhile(session: LibvirtSession, small: str) -> None:
    with open_target(libvirt=small, connect=session.uri) as target:
        session.virsh("destroy", small)
        with pytest.raises(GuestVanished, match=f"libvirt domain {small} of .* is gone: "):
            target.registers()


def test_the_proxy(session: LibvirtSession, folder: Path) -> None:
    proxy = Path("/usr/bin/virt-qemu-qmp-proxy")
    if not proxy.exists():
        pytest.skip("no virt-qemu-qmp-proxy (Debian: libvirt-clients-qemu)")
    start, line = documented.sections()["virt-qemu-qmp-proxy"]
    # Debian's Python has its bindings, ours may have none.
    words = ["/usr/bin/python3", str(proxy), *start.command.removesuffix(" &").split()[1:]]
    environment = {**os.environ, "LIBVIRT_DEFAULT_URI": session.uri}
    with subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as running:
        try:
            while not (folder / "proxy.sock").exists():
                assert running.poll() is None
                time.sleep(0.05)
            done = documented.run(line, folder)
        finally:
            running.terminate()
    assert "\ntransport  proc-mem (proved against xp: 8 pages, 4 above 4 GiB" in done.stdout


def test_a_qmp_socket_beside_libvirt_s_own(session: LibvirtSession, vmlinux: Path) -> None:
    """A dump through any monitor would end libvirtd 9.0: none is asked for."""
    done = documented.run(f"kvmtools check --qemu {session.folder}/own.sock -s {vmlinux}", session.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n✓ agrees with the model" in done.stdout


def test_a_core_by_virsh(session: LibvirtSession, folder: Path) -> None:
    dump, line = documented.sections()["virsh dump"]
    documented.run(dump, folder, LIBVIRT_DEFAULT_URI=session.uri)
    with closing(ElfCore(folder / "core")) as core:
        assert [each.end > FOUR_GIB for each in core.ranges].count(True) == 1
        assert len(core.registers()) == 2
        assert core.vmcoreinfo() is not None
    documented.run(line, folder)
    (folder / "core").unlink()


def test_registers_by_a_gdbstub_that_is_opened_for_us(session: LibvirtSession, folder: Path) -> None:
    done = documented.run(f"kvmtools regs --libvirt pae --connect '{session.uri}' -s vmlinux", folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("\nread by GDB, and libvirt agrees\n")
    with LibvirtMonitor("pae", session.uri) as monitor:
        assert served(monitor) is None, "the gdbstub is left open"


@pytest.mark.parametrize("command", ["dump", "save"])
def test_what_else_virsh_writes_is_named(
    session: LibvirtSession, folder: Path, small: str, command: str
) -> None:
    session.virsh(command, small, str(folder / "core"))
    done = documented.run("kvmtools check -c core -s vmlinux", folder)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("kvmtools: core is a saved QEMU machine, not an ELF core (")
    assert "virsh dump --memory-only" in done.stderr


def test_a_domain_that_does_not_run(session: LibvirtSession, folder: Path, carrier: dict[str, str]) -> None:
    (folder / "off.xml").write_text(domain("off", memory=64))
    session.virsh("define", str(folder / "off.xml"))
    try:
        done = documented.run(
            f"kvmtools check --libvirt off --connect '{session.uri}' -s vmlinux", folder, **carrier
        )
    finally:
        session.virsh("undefine", "off")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"kvmtools: libvirt domain off of {session.uri}: Requested operation is not valid: domain is not running"
        " (virsh start runs it)\n"
    )


def test_a_domain_that_there_is_not(session: LibvirtSession, folder: Path, carrier: dict[str, str]) -> None:
    done = documented.run(
        f"kvmtools check --libvirt none --connect '{session.uri}' -s vmlinux", folder, **carrier
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"kvmtools: libvirt domain none of {session.uri}: ")
    assert done.stderr.endswith(
        "(virsh list names those that run; another libvirt is named with --connect URI)\n"
    )
    assert done.stderr.count("\n") == 1


def test_a_libvirt_that_does_not_answer(folder: Path, carrier: dict[str, str]) -> None:
    uri = f"qemu+unix:///session?socket={folder}/none"
    done = documented.run(f"kvmtools check --libvirt pae --connect '{uri}' -s vmlinux", folder, **carrier)
    assert (done.returncode, done.stdout) == (3, "")
    assert (
        f"Failed to connect socket to '{folder}/none': No such file or directory (does libvirtd run? "
        in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_a_domain_that_is_not_qemu_s(folder: Path, carrier: dict[str, str]) -> None:
    done = documented.run(
        "kvmtools check --libvirt test --connect test:///default -s vmlinux", folder, **carrier
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "kvmtools: libvirt domain test of test:///default: this function is not supported by the connection driver:"
        " virDomainQemuMonitorCommand (only QEMU's domains can be looked at)\n"
    )


def test_the_tab_key_knows_the_domains(session: LibvirtSession, small: str) -> None:
    for typed, shown in (("p", ["pae"]), ("", ["pae", small]), ("x", [])):
        done = documented.run(
            "kvmtools",
            session.folder,
            _KVMTOOLS_COMPLETE="bash_complete",
            COMP_WORDS=f"kvmtools check --libvirt {typed}",
            COMP_CWORD="3",
            LIBVIRT_DEFAULT_URI=session.uri,
        )
        assert sorted(done.stdout.split()) == [f"plain,{name}" for name in shown], (typed, done.stderr)
