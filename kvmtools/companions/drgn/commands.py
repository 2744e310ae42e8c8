"""Commands of drgn's own kind: ``%kvm-vtop``, ``%kvm-walk``, ...; each prints what the one of the same name in a shell
does, or with ``--drgn`` the code that does it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from drgn import Program
from drgn.commands import (
    CommandError,
    DrgnCodeBuilder,
    argument,
    command,
    drgn_argument,
    mutually_exclusive_group,
)

from kvmtools.api.adopted import is_adopted, kernel_of
from kvmtools.errors import KvmtoolsError
from kvmtools.show.printable import told

HELPERS = "kvmtools.drgn"
_PAGE_TABLE = mutually_exclusive_group(
    argument("--pid", type=int, help="the page table of this process"),
    argument("--cpu", type=int, help="the page table that this vCPU has loaded"),
    argument("--cr3", metavar="PHYS", help="the page table at this physical address"),
)
_CHOICES = ("pid", "cpu", "cr3")

Run = Callable[[Program, argparse.Namespace], None]
Write = Callable[[argparse.Namespace, DrgnCodeBuilder], None]


def _command(name: str, description: str, *arguments: Any, writes: Write) -> Callable[[Run], Run]:
    """Register what prints the answer; ``writes`` appends the code that does the same."""

    def register(run: Run) -> Run:
        @command(
            name=f"kvm-{name}",
            description=description,
            arguments=(*arguments, drgn_argument),
            enabled=is_adopted,
        )
        def do(prog: Program, name: str, args: argparse.Namespace, **_: Any) -> None:
            if args.drgn:
                code = DrgnCodeBuilder(prog)
                writes(args, code)
                code.print()
                return
            try:
                run(prog, args)
            except KvmtoolsError as error:
                raise CommandError(told(error)) from None

        return run

    return register


def _write(helper: str, line: str) -> Write:
    def write(_args: argparse.Namespace, code: DrgnCodeBuilder) -> None:
        code.add_from_import(HELPERS, helper)
        code.append(f"{line}\n")

    return write


def _table(args: argparse.Namespace) -> dict[str, Any]:
    """The page table that is chosen, if one is."""
    return {name: getattr(args, name) for name in _CHOICES if getattr(args, name) is not None}


def _keywords(**values: Any) -> str:
    """``, name=value`` for each that is given."""
    return "".join(f", {name}={value!r}" for name, value in values.items() if value not in (None, (), []))


def _write_vtop(args: argparse.Namespace, code: DrgnCodeBuilder) -> None:
    code.add_from_import(HELPERS, "open_kernel")
    code.append("kernel = open_kernel(prog)\n")
    with code.begin_block(
        f"for translation in kernel.vtop_each({args.address!r}{_keywords(**_table(args))}):\n"
    ):
        code.append("print(translation)\n")


@_command(
    "vtop",
    "translate virtual addresses of an i386 kernel",
    argument("address", nargs="+", help="hexadecimal address, or a symbol: swapper_pg_dir, init_task+8"),
    _PAGE_TABLE,
    writes=_write_vtop,
)
def _vtop(prog: Program, args: argparse.Namespace) -> None:
    for translation in kernel_of(prog).vtop_each(args.address, **_table(args)):
        print(translation)


def _write_walk(args: argparse.Namespace, code: DrgnCodeBuilder) -> None:
    code.add_from_import(HELPERS, "open_kernel")
    words = _keywords(end=args.end, region=args.region, **_table(args))
    code.append("kernel = open_kernel(prog)\n")
    code.append(f"print(kernel.walk({args.start!r}{words}))\n")


@_command(
    "walk",
    "list what a page table of an i386 kernel maps",
    argument("start", nargs="?", default="0", help="begin here: an address or a symbol"),
    argument("end", nargs="?", help="end before this one"),
    argument("--region", help="only this region, such as vmalloc or direct-map"),
    _PAGE_TABLE,
    writes=_write_walk,
)
def _walk(prog: Program, args: argparse.Namespace) -> None:
    print(kernel_of(prog).walk(args.start, args.end, region=args.region, **_table(args)))


def _write_page(args: argparse.Namespace, code: DrgnCodeBuilder) -> None:
    code.add_from_import(HELPERS, "open_kernel" if args.page else "page_states")
    if not args.page:
        code.append("print(page_states(prog))\n")
        return
    with code.begin_block(f"for page in open_kernel(prog).pages({args.page!r}):\n"):
        code.append("print(page)\n")


@_command(
    "page",
    "show struct pages of an i386 kernel in full, or what all pages are doing",
    argument("page", nargs="*", help="a pfn (0x1fca6), the address of a struct page, or phys:ADDRESS"),
    writes=_write_page,
)
def _page(prog: Program, args: argparse.Namespace) -> None:
    kernel = kernel_of(prog)
    for answer in kernel.pages(args.page) if args.page else [kernel.memmap()]:
        print(answer)


@_command(
    "pkmap",
    "show the slots of pkmap of an i386 kernel",
    writes=_write("open_kernel", 'print(open_kernel(prog).pkmap() or "this kernel has no CONFIG_HIGHMEM")'),
)
def _pkmap(prog: Program, _args: argparse.Namespace) -> None:
    print(kernel_of(prog).pkmap() or "this kernel has no CONFIG_HIGHMEM")


@_command(
    "zones", "show the zones of an i386 kernel", writes=_write("kernel_zones", "print(kernel_zones(prog))")
)
def _zones(prog: Program, _args: argparse.Namespace) -> None:
    print(kernel_of(prog).zones())


@_command(
    "layout",
    "show the address space of an i386 kernel, the model beside the guest",
    writes=_write("kernel_layout", "print(kernel_layout(prog))"),
)
def _layout(prog: Program, _args: argparse.Namespace) -> None:
    print(kernel_of(prog).layout())


def _write_check(args: argparse.Namespace, code: DrgnCodeBuilder) -> None:
    code.add_from_import("kvmtools", "render")
    code.add_from_import(HELPERS, "check_kernel")
    words = _keywords(only=args.only, skip=args.skip)
    code.append(f'print(render(check_kernel(prog{words}), "text"))\n')


@_command(
    "check",
    "check whether an i386 kernel's memory management is as it must be",
    argument(
        "--only", action="append", default=[], metavar="RULE", help="only this rule or group; may be repeated"
    ),
    argument("--skip", action="append", default=[], metavar="RULE", help="without this one; may be repeated"),
    writes=_write_check,
)
def _check(prog: Program, args: argparse.Namespace) -> None:
    from kvmtools.report import render

    print(render(kernel_of(prog).check(only=args.only, skip=args.skip), "text"))
