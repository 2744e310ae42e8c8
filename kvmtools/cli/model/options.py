"""The options that the model's commands share: they describe a machine that nobody has booted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.model.boot_options import followed, without_effect
from kvmtools.cli.model.ram_in_use import refuse_image_outside_ram
from kvmtools.cli.model.ram_map import amount, ram_map
from kvmtools.cli.output import note
from kvmtools.errors import UsageError
from kvmtools.model import eras, machine
from kvmtools.records import Configuration, E820Entry

SPLITS = {
    "3G": 0xC0000000,
    "3G_OPT": 0xB0000000,
    "2G": 0x80000000,
    "2G_OPT": 0x78000000,
    "1G": 0x40000000,
}
"""``PAGE_OFFSET`` by the name of the choice CONFIG_VMSPLIT_* (arch/x86/Kconfig)."""
DEFAULT_MEMORY = "4G"


def size_of(text: str) -> int:
    """Bytes, written as the kernel's command line writes them: ``512M``, ``4G``, ``0x1000``; or ``1.5G``.

    :raises UsageError: if that is no size
    """
    number = amount(text)
    if not number:
        raise UsageError(f"{text!r} is no size", hint="sizes look like 896M, 4G, 64G")
    return number


def era_name(text: str) -> str:
    """The name of an era.

    :raises UsageError: if there is none of that name
    """
    return eras.named(text).name


def complete_era(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of eras, for the shell's tab key."""
    return [CompletionItem(name) for name in eras.NAMES if name.startswith(incomplete)]


def complete_file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of files, where something else may be said instead."""
    return [CompletionItem(incomplete, type="file")]


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What the person said of the machine; the era may still be another (``layout --diff``)."""

    era: str
    pae: bool
    memory: int | None
    e820: tuple[E820Entry, ...] | None
    append: str
    split: str
    nr_cpus: int
    sizeof_page: int | None
    sparsemem: bool
    highmem: bool
    pti: bool

    def configuration(self, era: str | None = None) -> Configuration:
        """The configuration of the kernel, of the era asked for or of another.

        :raises UsageError: if the era never had what is asked for, or the kernel would not lie in RAM
        """
        row = eras.named(era or self.era)
        if self.nr_cpus > row.most_cpus:
            raise UsageError(
                f"{row.name} cannot be built for {self.nr_cpus} CPUs",
                hint=f"--nr-cpus is {row.most_cpus} at most: kvmtools model eras --field most_cpus --sources",
            )
        configuration = machine.configuration(
            row.name,
            pae=self.pae,
            memory=self.memory,
            e820=self.e820,
            page_offset=SPLITS[self.split],
            nr_cpus=self.nr_cpus,
            highmem=self.highmem,
            sparsemem=self.sparsemem,
            command_line=self.append,
            page_struct_size=self.sizeof_page,
            pti=self.pti,
        )
        refuse_image_outside_ram(configuration)
        for line in without_effect(configuration):
            note(line)
        return configuration


_MACHINE = (
    click.option(
        "--era",
        metavar="ERA",
        type=era_name,
        shell_complete=complete_era,
        default="6.1",
        show_default=True,
        help=f"Which kernel: {', '.join(eras.NAMES)}.",
    ),
    click.option("--pae/--no-pae", default=True, show_default=True, help="CONFIG_X86_PAE: 64-bit entries."),
    click.option(
        "--memory",
        metavar="SIZE",
        type=size_of,
        help=f"RAM of QEMU's machine 'pc': 896M, 1.5G, 64G.  [default: {DEFAULT_MEMORY}]",
    ),
    click.option(
        "--e820",
        metavar="MAP",
        shell_complete=complete_file,
        help="Another RAM map: 0-640K,1M-3.5G,4G-5G, or a file with lines of /proc/iomem or of a boot log; - is stdin.",
    ),
    click.option(
        "--append",
        metavar="TEXT",
        default="",
        help='The kernel\'s command line: "vmalloc=256M highmem=64M".  The model follows '
        f"{followed()}, of which it says what the era does not.",
    ),
    click.option(
        "--split",
        type=click.Choice(list(SPLITS)),
        default="3G",
        show_default=True,
        help="CONFIG_VMSPLIT_*: how much of the address space is the user's.",
    ),
    click.option(
        "--nr-cpus",
        type=click.IntRange(1),
        default=4,
        show_default=True,
        help="CONFIG_NR_CPUS, which sizes the fixmap and the CPU entry area; each era has its limit.",
    ),
    click.option(
        "--sizeof-page",
        metavar="BYTES",
        type=click.IntRange(4, 4096),
        help="sizeof(struct page).  [default: of an ordinary build]",
    ),
    click.option("--sparsemem", is_flag=True, help="CONFIG_SPARSEMEM instead of FLATMEM."),
    click.option("--no-highmem", is_flag=True, help="A kernel without CONFIG_HIGHMEM."),
    click.option("--pti", is_flag=True, help="Page-table isolation is active, unless --append turns it off."),
)


def machine_request_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the machine and hand them over as one :class:`MachineOptions`, the first argument."""

    @functools.wraps(function)
    def wrapper(*args: Any, e820: str | None, memory: int | None, no_highmem: bool, **kwargs: Any) -> Any:
        if e820 is not None and memory is not None:
            raise UsageError("--memory and --e820 both say how much RAM there is", hint="give one of them")
        if e820 is None and memory is None:
            memory = size_of(DEFAULT_MEMORY)
        words = ("era", "pae", "append", "split", "nr_cpus", "sizeof_page", "sparsemem", "pti")
        request = MachineOptions(
            memory=memory,
            e820=None if e820 is None else ram_map(e820),
            highmem=not no_highmem,
            **{word: kwargs.pop(word) for word in words},
        )
        return function(request, *args, **kwargs)

    for option in reversed(_MACHINE):
        wrapper = option(wrapper)
    return wrapper


def machine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the machine and hand over one :class:`~kvmtools.records.Configuration`, the first
    argument of ``function``."""

    @functools.wraps(function)
    def wrapper(request: MachineOptions, *args: Any, **kwargs: Any) -> Any:
        return function(request.configuration(), *args, **kwargs)

    return machine_request_options(wrapper)
