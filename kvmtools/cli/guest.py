"""``kvmtools guest``: kernels to boot, and guests that outlive the command that started them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.group import Group
from kvmtools.cli.options import complete_guest, format_option
from kvmtools.cli.output import emit, emit_json, note, progress
from kvmtools.errors import AttachError, BuildError, GuestVanished, KvmtoolsError, UsageError
from kvmtools.show.printable import printable

if TYPE_CHECKING:
    from kvmtools.boot.guests.record import Guest
    from kvmtools.boot.kernels.reference import BuiltKernel

KERNELS = ("pae", "nopae")
KNOWN = (*KERNELS, "numa", "sparse")
# What people call them, without case and punctuation.
_SPELLINGS = {"pae": "pae"} | dict.fromkeys(("nopae", "nonpae", "npae", "nonepae", "notpae"), "nopae")


def complete_kernel(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Our kernels' names, then files."""
    ours = [CompletionItem(name) for name in KNOWN if name.startswith(incomplete)]
    return [*ours, CompletionItem(incomplete, type="file")]


@click.group(cls=Group)
def command() -> None:
    """Build kernels; start, look at and stop guests.

    \b
    kvmtools guest build                      both kernels, a few minutes the first time
    kvmtools guest start pae                  2 CPUs, 2 GiB
    kvmtools guest start big --memory 16G     a PAE guest of another name
    kvmtools guest start mine --kernel arch/x86/boot/bzImage -s vmlinux
    kvmtools guest status pae                 its state, its sockets, how to attach
    kvmtools guest driver pae mix 400         something to see in pkmap
    kvmtools guest stop --all
    """


@command.command()
@click.argument("names", metavar="[pae|nopae|numa|sparse]...", nargs=-1, type=click.Choice(KNOWN))
@click.option(
    "--source",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="A Linux source tree or tarball, instead of the distribution's linux-source package.",
)
def build(names: tuple[str, ...], source: Path | None) -> None:
    """Build the reference kernels, unless the cache has them already.

    \b
    kvmtools guest build                          both
    kvmtools guest build pae --source ~/linux     one, from a tree of your own
    kvmtools guest build numa sparse              variants: several nodes; mem_map in sections, without PAE
    """
    from kvmtools.boot.kernels import reference

    show = progress()
    for name in names or KERNELS:
        kernel = reference.ensure(name, source, progress=show)
        show("")
        emit(f"{name}\t{kernel.release}\t{kernel.bzimage}")


@command.command()
@click.argument("name", required=False)
@click.option(
    "--kernel",
    metavar="pae|nopae|numa|sparse|PATH",
    shell_complete=complete_kernel,
    help="What to boot: one of ours, an image, or a folder with one; by default the kernel that NAME names, else pae.",
)
@click.option(
    "-s",
    "--symbols",
    metavar="VMLINUX",
    type=click.Path(path_type=Path),
    help="The vmlinux of a kernel given by path, or a folder with it.",
)
@click.option(
    "--initrd", metavar="PATH", type=click.Path(path_type=Path), help="The initial ramdisk of that kernel."
)
@click.option("--memory", metavar="SIZE", default="2G", show_default=True, help="RAM, 64M to 60G.")
@click.option("--smp", metavar="N", type=int, default=2, show_default=True, help="Number of CPUs.")
@click.option("--append", metavar="PARAMETERS", default="", help="Kernel parameters, after ours.")
@click.option(
    "--accel",
    type=click.Choice(["auto", "tcg", "kvm"]),
    default="auto",
    show_default=True,
    help="auto takes KVM if a test guest really boots under it.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0.0, min_open=True),
    default=120.0,
    show_default=True,
    help="How long to wait for it.",
)
@format_option
def start(
    name: str | None,
    kernel: str | None,
    symbols: Path | None,
    initrd: Path | None,
    memory: str,
    smp: int,
    append: str,
    accel: str,
    timeout: float,
    form: str,
) -> None:
    """Start a guest and wait until it is ready; it runs on when the command ends.

    NAME is yours to choose; without it, it is the kernel's. A guest of our kernels is ready when its init answers;
    of any other, as soon as QEMU does, while its kernel may still boot. What fails leaves nothing behind
    but what its kernel printed.

    \b
    kvmtools guest start pae
    kvmtools guest start big --memory 16G --smp 4 --append "slub_debug=FZP"
    kvmtools guest start mine --kernel arch/x86/boot/bzImage -s vmlinux
    kvmtools guest start mine --kernel ~/linux       a build tree, or what tuxmake left: has both
    """
    from kvmtools.boot.guests import parameters, starting
    from kvmtools.boot.guests.qemu_command import MEMORY_BELOW_4G

    chosen = kernel or _kernel_for(name)
    show = progress()
    try:
        guest = starting.start(
            name or (chosen if chosen in KNOWN else "guest"),
            kernel=chosen,
            vmlinux=symbols,
            initrd=initrd,
            memory=memory,
            smp=smp,
            append=append,
            accel=accel,
            progress=show,
            timeout=timeout,
        )
    finally:
        show("")
    # Not before: a request that is refused boots nothing.
    if kernel is None and name is not None and name not in KNOWN:
        note(f"booted the {chosen} kernel; --kernel nopae for the other")
    if chosen in ("nopae", "sparse") and guest.memory_bytes > MEMORY_BELOW_4G:
        note("a kernel without PAE uses no memory above 4 GiB: the rest of this guest's RAM lies idle")
    if unknown := parameters.unknown(guest.console, append):
        note(f"its kernel does not know {', '.join(unknown)}: misspelt?")
    _show([guest], form, "guest start")


def _kernel_for(name: str | None) -> str:
    """The kernel that a guest of this name boots when none is given.

    :raises UsageError: if the name looks like a misspelled kernel's
    """
    if name is None or name in KNOWN:
        return name or "pae"
    spelled = _SPELLINGS.get("".join(filter(str.isalnum, name.lower())))
    if spelled is not None:
        raise UsageError(
            f"'{name}' is not the name of a kernel",
            hint=f"guest start {spelled}, or guest start {name} --kernel pae|nopae",
        )
    return "pae"


@command.command("list")
@format_option
def list_(form: str) -> None:
    """List the guests that run and the kernels that are built.

    Of several kernels of one name, `guest start NAME` boots the one that is current: built of today's source by today's
    kvmtools and compiler. The others boot by their path.
    A guest whose QEMU died is named once, on stderr, and cleaned up.
    """
    from kvmtools.boot.guests import lifecycle, registry
    from kvmtools.boot.kernels import reference
    from kvmtools.cli import guest_text

    for said in (*registry.sweep(), *registry.unreadable()):
        note(str(said))
    running = [(guest, lifecycle.state(guest)) for guest in registry.all_guests()]
    built: list[BuiltKernel] = []
    try:
        for entry in reference.damaged():
            note(f"the cached kernel {entry} is damaged: remove it, and build again")
        if older := reference.older():
            names = ", ".join(entry.name for entry in older)
            note(f"built by an older kvmtools, and may be removed from {older[0].parent}: {names}")
        built = reference.listing()
    except BuildError as unusable:
        note(unusable)
    current = reference.current_keys() if built else None
    if form == "json":
        emit_json(
            "guest list",
            guests=[guest_text.to_dict(guest, state) for guest, state in running],
            kernels=[guest_text.kernel_to_dict(kernel, current) for kernel in built],
        )
        return
    emit(guest_text.guest_table(running))
    emit("")
    emit(guest_text.kernel_table(built, current))


@command.command()
@click.argument("name", required=False, shell_complete=complete_guest)
@format_option
def status(name: str | None, form: str) -> None:
    """Show a guest's state and how to attach to it; all guests if none is named."""
    from kvmtools.boot.guests import registry

    for said in registry.unreadable() if name is None else ():
        note(str(said))
    _show([registry.find(name)] if name is not None else registry.all_guests(), form, "guest status")


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, shell_complete=complete_guest)
@click.option("--all", "everyone", is_flag=True, help="Every guest that runs.")
def stop(names: tuple[str, ...], everyone: bool) -> None:
    """Stop guests and remove their sockets, logs and RAM files.

    Those that run are stopped even if another of the names is nobody's; one that died already is cleaned up, and
    nothing is done to one whose record cannot be read.
    """
    from kvmtools.boot.guests import lifecycle, registry

    if everyone == bool(names):
        raise UsageError("name the guests to stop, or give --all")
    for dead in registry.sweep() if everyone else ():
        note(str(dead))
    show = progress()
    if everyone:
        running = [guest.name for guest in registry.all_guests()]
        names = (*running, *(found.name for found in registry.unreadable()))
    failures: list[KvmtoolsError] = []
    for name in dict.fromkeys(names):
        try:
            guest = registry.find(name)
            show(f"stopping {name}")
            lifecycle.stop(guest)
            said = f"guest '{name}' is stopped"
        except GuestVanished as died:
            said = f"{died.message}; cleaned up"
        except KvmtoolsError as error:
            failures.append(error)
            said = ""
        show("")
        if said:
            note(said)
    if failures:
        worst = max(failures, key=lambda failure: failure.exit_code)
        for other in failures:
            if other is not worst:
                note(other)
        raise worst


@command.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", shell_complete=complete_guest)
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True)
def driver(name: str, words: tuple[str, ...]) -> None:
    """Have the driver inside a guest of our kernels map highmem pages, or plant a bug.

    \b
    kvmtools guest driver pae mix 400       400 slots of pkmap in every state, after a wrap and a flush
    kvmtools guest driver pae alloc 8       eight highmem pages ...
    kvmtools guest driver pae kmap 0 3      ... the first of them mapped for three users
    kvmtools guest driver pae status        what is mapped, and where
    kvmtools guest driver pae fault list    bugs that it can plant ...
    kvmtools guest driver pae fault text-writable   ... and one of them, until `fault undo`

    All commands are in qemu/README.md.
    """
    from kvmtools.boot.guests import lifecycle, registry
    from kvmtools.boot.guests.agent import Agent

    guest = registry.find(name)
    state = lifecycle.state(guest)
    if state.panic:
        raise AttachError(f"guest '{name}' has panicked: {state.panic}", hint="no driver answers any more")
    if state.status == "paused":
        raise AttachError(
            f"guest '{name}' is paused: its driver cannot answer",
            hint="let it run, with QMP's cont or gdb's detach",
        )
    said = Agent(guest.agent).driver(" ".join(words))
    emit("\n".join(map(printable, said.splitlines())))


def _show(found: list[Guest], form: str, name: str) -> None:
    from kvmtools.boot.guests import lifecycle
    from kvmtools.cli import guest_text

    states = [(guest, lifecycle.state(guest)) for guest in found]
    if form == "json":
        emit_json(name, guests=[guest_text.to_dict(guest, state) for guest, state in states])
    elif not states:
        note("no guest runs")
    for guest, state in states if form == "text" else ():
        emit(guest_text.details(guest, state))
