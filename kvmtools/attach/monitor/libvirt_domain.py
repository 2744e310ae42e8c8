"""A QEMU that libvirt runs: libvirt keeps its monitor to itself, and carries our questions there.

It follows our ``stop`` and ``cont`` by QEMU's events, so ``virsh list`` tells the truth meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from kvmtools.attach.monitor.libvirt_carrier import LibvirtError, carrier
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, GuestVanished

_GONE = re.compile(r"is not running|from (?:qemu )?monitor|[Dd]omain not found|failed to get domain")
_PROC = Path("/proc")
_WHICH = "virsh list names those that run; another libvirt is named with --connect URI"
_HINTS = {
    "not supported": "only QEMU's domains can be looked at",
    "is not running": "virsh start runs it",
    "failed to get domain": _WHICH,
    "not found": _WHICH,
    "ermission denied": "run as its user, or as one of its group, libvirt",
    "uthentication": "run as its user, or as one of its group, libvirt",
    "onnect socket": "does libvirtd run? --connect names another libvirt: qemu:///session, qemu:///system",
}
"""What libvirt says, and what helps."""


class LibvirtMonitor(Monitor):
    """The human monitor of a domain.

    :param domain: its name, UUID or number
    :param uri: libvirt's, as for ``virsh -c``; without one, libvirt's own default
    :raises AttachError: if libvirt is not there, has no such domain, or the domain does not run
    """

    name = "libvirt"

    def __init__(self, domain: str, uri: str | None = None) -> None:
        self._domain, self._uri = domain, uri
        self.resumes = f"virsh resume {domain}"
        self.address = f"libvirt domain {domain}" + (f" of {uri}" if uri is not None else "")
        with ExitStack() as stack:
            try:
                self._carrier = stack.enter_context(carrier(uri))
                self._uuid = self._carrier.ask(domain, "info uuid").strip()
            except LibvirtError as error:
                raise self._explained(str(error)) from None
            stack.pop_all()

    def hmp(self, line: str) -> str:
        try:
            return self._carrier.ask(self._domain, line).replace("\r\n", "\n")
        except LibvirtError as error:
            if _GONE.search(str(error)):
                raise GuestVanished(f"{self.address} is gone: {error}") from None
            raise self._explained(str(error)) from None

    def again(self, seconds: float) -> LibvirtMonitor:
        return LibvirtMonitor(self._domain, self._uri)

    def peer_pid(self) -> int:
        """The process of this host that was started with the domain's UUID.

        libvirt may be another host's, where threads have numbers of their own.
        """
        found = list(_started_with("-uuid", self._uuid))
        if len(found) != 1:
            raise AttachError(
                f"{len(found) or 'no'} process{'es' * (len(found) > 1)} of this host with UUID {self._uuid}",
                hint="run on the host of its QEMU",
            )
        return found[0]

    def close(self) -> None:
        self._carrier.close()

    def _explained(self, why: str) -> AttachError:
        hint = next((hint for text, hint in _HINTS.items() if text in why), "")
        return AttachError(f"{self.address}: {why}", hint=hint)


def _started_with(option: str, value: str) -> Iterator[int]:
    """The pids of this host whose command line has this option with this value."""
    wanted = b"\0%s\0%s\0" % (option.encode(), value.encode())
    for path in _PROC.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            if wanted in path.read_bytes():
                yield int(path.parts[-2])
