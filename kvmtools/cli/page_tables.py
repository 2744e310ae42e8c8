"""The options that say which page table a person means."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypedDict

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.options import TargetOptions
from kvmtools.errors import KvmtoolsError


class PageTableWords(TypedDict):
    """What the options said, as the API takes it."""

    cr3: str | None
    cpu: int | None
    pid: int | None


def complete_pid(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Processes of the guest that the words before name; nothing if there is no way to it."""
    named = {name: ctx.params.get(name) for name in ("guest", "qemu", "gdb", "core", "symbols")}
    try:
        with TargetOptions(**named, pause=False).open() as kernel:
            found = kernel.processes()
    except (KvmtoolsError, OSError):
        return []
    return [CompletionItem(str(p.pid), help=p.comm) for p in found if str(p.pid).startswith(incomplete)]


def page_table_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--cr3``, ``--cpu`` and ``--pid``; the function gets one :class:`PageTableWords`, ``table``."""

    @click.option("--cr3", metavar="ADDRESS", help="Walk the page table at this physical address.")
    @click.option("--cpu", metavar="N", type=int, help="Walk the page table that vCPU N uses now.")
    @click.option(
        "--pid",
        metavar="PID",
        type=int,
        shell_complete=complete_pid,
        help="Walk the page table of this process.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, cr3: str | None, cpu: int | None, pid: int | None, **kwargs: Any) -> Any:
        return function(*args, table=PageTableWords(cr3=cr3, cpu=cpu, pid=pid), **kwargs)

    return wrapper
