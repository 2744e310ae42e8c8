"""The options that commands share, spelled as drgn spells them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel

FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Which guest the person means."""

    guest: str | None = None
    qemu: str | None = None
    libvirt: str | None = None
    connect: str | None = None
    gdb: str | None = None
    core: Path | None = None
    symbols: Path | None = None
    pause: bool = True

    def open(self) -> AbstractContextManager[OpenKernel]:
        """Its kernel; see :func:`kvmtools.open` for the exceptions."""
        return OPENER.get()(self)


def _opened(options: TargetOptions) -> OpenKernel:
    from kvmtools.api.opening import open_kernel

    return open_kernel(**asdict(options))


OPENER: ContextVar[Callable[[TargetOptions], AbstractContextManager[OpenKernel]]] = ContextVar(
    "opener", default=_opened
)
"""Who opens what the options name: a host of our commands that has a guest already puts itself here."""


def complete_guest(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the guests that run, for the shell's tab key."""
    from kvmtools.boot.guests import registry

    return [
        CompletionItem(guest.name) for guest in registry.all_guests() if guest.name.startswith(incomplete)
    ]


def complete_address(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Paths: a socket may be one."""
    return [CompletionItem(incomplete, type="file")]


def complete_domain(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the libvirt domains that run."""
    from kvmtools.api.guests import libvirt_domains

    names = libvirt_domains(ctx.params.get("connect"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_TARGET = (
    click.option(
        "-g", "--guest", metavar="NAME", shell_complete=complete_guest, help="A guest that kvmtools started."
    ),
    click.option(
        "--qemu",
        metavar="ADDRESS",
        shell_complete=complete_address,
        help="Monitor of anybody's QEMU, QMP or human: a path, or HOST:PORT.",
    ),
    click.option(
        "--libvirt", metavar="DOMAIN", shell_complete=complete_domain, help="A libvirt domain that runs."
    ),
    click.option("--connect", metavar="URI", help="Its libvirt, as for virsh -c, if not the default one."),
    click.option(
        "--gdb",
        metavar="ADDRESS",
        shell_complete=complete_address,
        help="GDB socket of a QEMU, which is enough: a path, or [HOST]:PORT.",
    ),
    click.option(
        "-c",
        "--core",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="A recording by kvmtools snapshot, or a core.",
    ),
    click.option(
        "-s",
        "--symbols",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="The guest's vmlinux or vmlinuz, or a folder to look in; else it is looked for by its build id.",
    ),
    click.option("--no-pause", is_flag=True, help="Read the guest while it runs; the result says so."),
)


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the target options and hand them over as one :class:`TargetOptions`, the first argument."""

    @functools.wraps(function)
    def wrapper(
        *args: Any,
        guest: str | None,
        qemu: str | None,
        libvirt: str | None,
        connect: str | None,
        gdb: str | None,
        core: Path | None,
        symbols: Path | None,
        no_pause: bool,
        **kwargs: Any,
    ) -> Any:
        return function(
            TargetOptions(guest, qemu, libvirt, connect, gdb, core, symbols, not no_pause), *args, **kwargs
        )

    for option in reversed(_TARGET):
        wrapper = option(wrapper)
    return wrapper


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="How to print the result.",
)
