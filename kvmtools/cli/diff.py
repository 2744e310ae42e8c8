"""``kvmtools diff``: what is different between two recordings, or between then and now."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.consistency import RAN
from kvmtools.cli.options import TargetOptions, complete_guest, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note, progress
from kvmtools.errors import UsageError
from kvmtools.show.differences import differences_text
from kvmtools.show.tables import hexadecimal

_LIVE = ("guest", "qemu", "libvirt", "gdb")
"""What a word may begin with, and a colon behind it, to name what is no file."""
_INCONCLUSIVE = 5


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, and the guests that run."""
    running = [
        f"guest:{item.value}" for item in complete_guest(ctx, param, incomplete.removeprefix("guest:"))
    ]
    return [
        CompletionItem(incomplete, type="file"),
        *(CompletionItem(word) for word in running if word.startswith(incomplete)),
    ]


@click.command()
@click.argument("words", metavar="A [B]", nargs=-1, shell_complete=_complete)
@target_options
@format_option
def command(options: TargetOptions, words: tuple[str, ...], form: str) -> int:
    """Show what is different in B from A: mappings, processes, what pages do, slots of pkmap, zones.

    A and B are recordings (files); or guest:NAME, qemu:ADDRESS, libvirt:DOMAIN or gdb:ADDRESS, which are looked at when
    their turn comes.  Without B it is the guest of the options, as it is now.  A file that `kvmtools snapshot` did not
    write needs -s.  Exit codes: 0 nothing is different, 1 something is, 2 usage, 3 cannot attach, 5 not all could be
    compared, and the rest is the same.

    \b
    kvmtools diff before.vmcore after.vmcore
    kvmtools diff before.vmcore -g pae
    kvmtools diff guest:pae guest:pae
    """
    from kvmtools.api.differences import diff

    show = progress()
    show("attaching")
    before, after = _two(words, options)
    with ExitStack() as stack:
        first = stack.enter_context(before.open())
        second = first if before == after else stack.enter_context(after.open())
        show("comparing")
        found = diff(first, second)
        show("")
        if first.read_while_running or second.read_while_running:
            note(RAN)
    if form == "json":
        emit_json("diff", **_document(found))
    else:
        emit(differences_text(found))
    return 1 if found else _INCONCLUSIVE if found.missing else 0


def _two(words: tuple[str, ...], options: TargetOptions) -> tuple[TargetOptions, TargetOptions]:
    """The two targets that are meant.

    :raises UsageError: if they are not two
    """
    if not 1 <= len(words) <= 2:
        raise UsageError(
            f"diff compares two, and {len(words)} are named",
            hint="kvmtools diff A B, or kvmtools diff A -g NAME",
        )
    named = [name for name in (*_LIVE, "core") if getattr(options, name) is not None]
    if len(words) == 2 and named:
        raise UsageError(f"{words[0]}, {words[1]} and --{named[0]} are three", hint="leave one of them out")
    targets = [_target(word, options) for word in words]
    return targets[0], targets[1] if len(words) == 2 else options


def _target(word: str, options: TargetOptions) -> TargetOptions:
    kind, colon, value = word.partition(":")
    chosen: dict[str, Any] = dict.fromkeys((*_LIVE, "core"))
    if colon and kind in _LIVE and not Path(word).exists():
        return replace(options, **{**chosen, kind: value})
    return replace(options, **{**chosen, "core": Path(word)})


def _document(found: Any) -> dict[str, Any]:
    return {
        "before": _side(found.before),
        "after": _side(found.after),
        "different": bool(found),
        "mappings": [_mapping(each) for each in found.mappings],
        "processes": [
            {
                "change": each.change,
                "pid": each.pid,
                "name": each.name,
                "appeared_bytes": each.appeared,
                "gone_bytes": each.gone,
                "changed_bytes": each.changed,
            }
            for each in found.processes
        ],
        "pages": [
            {"from": before, "to": after, "pages": pages}
            for before, row in zip(found.states, found.flow.tolist(), strict=True)
            for after, pages in zip(found.states, row, strict=True)
            if pages
        ],
        "pkmap": {
            "cursor": None if found.cursor is None else list(found.cursor),
            "slots": [
                {
                    "slot": each.slot,
                    "count": list(each.counts),
                    "pte": [hexadecimal(pte) for pte in each.ptes],
                }
                for each in found.slots
            ],
        },
        "zones": [
            {"zone": label, "of": each.name, "before": each.before, "after": each.after}
            for label, changes in found.zones.items()
            for each in changes
        ],
        "not_compared": dict(found.missing),
    }


def _side(side: Any) -> dict[str, Any]:
    return {
        "target": side.target,
        "release": side.release,
        "build_id": side.build_id,
        "slide": hexadecimal(side.slide),
    }


def _mapping(each: Any) -> dict[str, Any]:
    return {
        "change": each.change,
        "virtual": hexadecimal(each.virtual),
        "size_bytes": each.end - each.virtual,
        "region": each.region,
        "before": _mapped(each.before),
        "after": _mapped(each.after),
    }


def _mapped(side: Any) -> dict[str, Any] | None:
    if side is None:
        return None
    return {
        "physical": hexadecimal(side.physical),
        "entry": hexadecimal(side.entry),
        "writable": side.writable,
        "user": side.user,
        "executable": side.executable,
    }
