"""A libvirt of a test's own: a ``libvirtd`` as a user has it, its folders, and what ends it.

Debian: libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients; for the proxy libvirt-clients-qemu.  As root,
libvirtd would be the system's one; in a user namespace where we are somebody else it is a user's, whose QEMU is ours to
look at.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 20
_AS_A_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
_PIDS = "XDG_RUNTIME_DIR/libvirt/qemu/run"
_FOLDERS = ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HOME")


class NoLibvirt(Exception):
    """Why there is none on this machine."""


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what its parent has yet to see of it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


@dataclass
class LibvirtSession:
    """One that runs."""

    folder: Path
    environment: dict[str, str]
    daemon: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        return f"qemu+unix:///session?socket={self.folder}/XDG_RUNTIME_DIR/libvirt/libvirt-sock"

    def virsh(self, *words: str) -> str:
        """What it prints; it has to succeed."""
        done = subprocess.run(
            ["virsh", "--quiet", "--connect", self.uri, *words],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise AssertionError(f"virsh {' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def create(self, xml: str) -> None:
        """Start a domain that is forgotten when it ends."""
        path = self.folder / "domain.xml"
        path.write_text(xml)
        self.virsh("create", str(path))

    def domains(self) -> list[str]:
        return self.virsh("list", "--name").split()

    def pid(self, domain: str) -> int:
        """Of its QEMU, as libvirtd wrote it down."""
        return int((self.folder / _PIDS / f"{domain}.pid").read_text())

    def pid_files(self) -> list[Path]:
        """Of the domains that run."""
        return [path for path in (self.folder / _PIDS).glob("*.pid") if path.stem != "driver"]


def domain(
    name: str,
    *,
    memory: int,
    body: str = "",
    os_body: str = "",
    options: tuple[str, ...] = (),
    console: Path = Path("/dev/null"),
) -> str:
    """The XML of a 32-bit PC under emulation.

    :param memory: MiB
    :param body: more elements of the domain; ``os_body`` more of its ``<os>``
    :param options: more of QEMU's, behind libvirt's own
    :param console: the file that the first serial port goes to
    """
    more = "".join(f"<qemu:arg value='{word}'/>" for word in options)
    return f"""
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>2</vcpu>
  <os><type arch='i686' machine='pc'>hvm</type>{os_body}</os>
  <features><acpi/><vmcoreinfo/></features>
  <cpu mode='maximum'/>
  <on_reboot>destroy</on_reboot>
  {body}
  <devices>
    <emulator>{shutil.which("qemu-system-i386")}</emulator>
    <serial type='file'><source path='{console}'/></serial>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>{more}</qemu:commandline>
</domain>"""


@contextmanager
def libvirt_session() -> Iterator[LibvirtSession]:
    """It runs for the length of a ``with``; then its domains, itself and its folders are gone.

    :raises NoLibvirt: if this machine has none, or not the whole of it
    """
    libvirtd = shutil.which("libvirtd", path=f"{os.environ['PATH']}:/usr/sbin")
    for program, found in (("libvirtd", libvirtd), ("virsh", shutil.which("virsh"))):
        if found is None:
            raise NoLibvirt(
                f"no {program} (Debian: libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients)"
            )
    # pytest's folders have names too long for the sockets that libvirt makes below.
    with tempfile.TemporaryDirectory(prefix="kvmtools-lv-") as name:
        folder = Path(name)
        for each in _FOLDERS:
            (folder / each).mkdir(mode=0o700)
        settings = folder / "XDG_CONFIG_HOME/libvirt/qemu.conf"
        settings.parent.mkdir()
        settings.write_text('stdio_handler = "file"\n')  # no virtlogd, which would stay
        environment = {**os.environ, **{each: str(folder / each) for each in _FOLDERS}}
        command = [*(_AS_A_USER if os.geteuid() == 0 else []), str(libvirtd)]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        session = LibvirtSession(folder, environment, daemon)
        try:
            _wait(session)
            yield session
        finally:
            # A guest outlives its libvirtd, which may have died: no domain is left to it.
            left = [session.pid(path.stem) for path in session.pid_files()]
            daemon.terminate()
            daemon.wait(_SECONDS)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                while runs(pid):
                    time.sleep(0.01)


def _wait(session: LibvirtSession) -> None:
    """Until it answers, as QEMU's libvirt."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            session.virsh("list")
            return
        except AssertionError as error:
            if (
                session.daemon.poll() is not None
                or time.monotonic() > deadline
                or "no connection driver" in str(error)
            ):
                log = (session.folder / "log").read_text().strip().splitlines()
                raise NoLibvirt(f"libvirtd does not serve QEMU here: {error}; {' '.join(log[-1:])}") from None
        time.sleep(0.05)
