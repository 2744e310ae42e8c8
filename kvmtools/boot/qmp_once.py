"""One question to a QEMU monitor: connect, ask, hang up."""

from __future__ import annotations

from pathlib import Path

from kvmtools.errors import AttachError


class MonitorBusy(AttachError):
    """The monitor answers somebody else, or not at all: QMP serves one client at a time."""


def ask(socket: Path, *commands: str, seconds: float = 3.0) -> list[object]:
    """Execute QMP commands without arguments; return what each returned, in order.

    :raises MonitorBusy: if nothing is answered within ``seconds``
    :raises AttachError: if nobody listens, or QEMU refuses a command
    """
    import asyncio
    import contextlib
    import logging

    from qemu.qmp import QMPClient, QMPError

    # It logs as errors what we report in our own words; without a handler, Python would print that.
    logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

    async def talk() -> list[object]:
        client = QMPClient("kvmtools")
        try:
            await client.connect(str(socket))
            return [await client.execute(command) for command in commands]
        finally:
            # After `quit` QEMU hangs up first, which disconnect() reports as an error.
            with contextlib.suppress(QMPError, OSError, EOFError):
                await client.disconnect()

    try:
        return asyncio.run(asyncio.wait_for(talk(), seconds))
    except TimeoutError:
        raise MonitorBusy(
            f"QEMU's monitor {socket} does not answer",
            hint="another client holds it, or QEMU is stopped",
        ) from None
    except (QMPError, OSError, EOFError) as error:
        raise AttachError(f"QEMU's monitor {socket}: {error}") from error
