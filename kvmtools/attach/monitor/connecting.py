"""The monitor at an address, of whichever kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmtools.attach.monitor.address import plain
from kvmtools.attach.monitor.greeting import greeted, is_human

if TYPE_CHECKING:
    from kvmtools.attach.monitor.monitor import Monitor

SECONDS = 5.0
"""QEMU greets at once, unless it is serving other clients: so long we wait for them."""


def open_monitor(address: str) -> Monitor:
    """QMP or the human monitor, told apart by the greeting.

    :param address: path of a unix socket, or ``host:port``
    :raises AttachError: if nobody listens there, somebody else is being served, or it is no monitor
    :raises UsageError: if the address is empty
    """
    address = plain(address)
    connection = greeted(address, SECONDS)
    if is_human(connection):
        from kvmtools.attach.monitor.human_monitor import HumanMonitor

        return HumanMonitor(address, connection)
    from kvmtools.attach.monitor.qmp import QmpMonitor

    return QmpMonitor(address, connection=connection)
