"""``kvmtools model pkmap``: a script of ``kmap`` and ``kunmap``, and the slots after each of its lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from kvmtools.cli.model.options import machine_options
from kvmtools.cli.model.pkmap_prompt import prompt
from kvmtools.cli.model.pkmap_script import ScriptedPkmap, code
from kvmtools.cli.model.pkmap_steps import drawn, step
from kvmtools.cli.model.refusal import note_refusal
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.scripts import script_text
from kvmtools.errors import KvmtoolsError, UsageError
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration
from kvmtools.show.drawing import LEGEND
from kvmtools.show.printable import told
from kvmtools.show.style import paint
from kvmtools.show.tables import hexadecimal


@click.command()
@click.argument("script", required=False, type=click.Path(allow_dash=True))
@click.option(
    "--slots",
    metavar="N",
    type=click.IntRange(1),
    help="LAST_PKMAP, a power of two, to run out of slots sooner.  [default: the kernel's, 512 with PAE, else 1024]",
)
@machine_options
@format_option
def command(configuration: Configuration, script: str | None, slots: int | None, form: str) -> int:
    """Run a SCRIPT of kmap and kunmap on the model, and draw the slots of pkmap after each line.

    Without SCRIPT the lines come from stdin; on a terminal there is a prompt, where "help" lists the words.
    It exits with 1 if the kernel would have stopped at a BUG_ON, with 2 at a line that makes no sense.

    A PAGE is a number, 3 or 0x3.  The numbers 0 to 0xfffff name highmem pages of the model's own: they are no pfns, and
    no --memory is too small for them.  Only the PAGE of lowmem is a pfn, and must be below highmem.

    \b
    kmap PAGE, kunmap PAGE   run until the call is done, or its thread sleeps
    flush                    kmap_flush_unused: unmap what nobody uses
    lowmem PAGE              kmap of a page that needs no slot
    interrupt                the thread is an interrupt, which must call neither
    start WORD ...           only begin a kmap, kunmap or flush
    step, run                go on by one store; until it is done or asleep
    B: WORD ...              another thread than A does it (A to H)
    # ...                    a comment

    \b
    printf 'kmap 3\\nkmap 4\\nB: kmap 5\\nkunmap 3\\nB: run\\n' | kvmtools model pkmap --slots 2
    kvmtools model pkmap --era 2.4 --no-pae
    """
    prediction = Prediction(configuration)
    note_refusal("this kernel", prediction)
    area, highmem = prediction.pkmap, prediction.layout.highmem
    if area is None or highmem is None:
        raise UsageError("without CONFIG_HIGHMEM there is no pkmap", hint="leave out --no-highmem")
    if slots is not None:
        area = _cut(area, slots)
    machine = ScriptedPkmap(area, prediction.era, configuration.page_offset, highmem.start)
    if script is None and sys.stdin is not None and sys.stdin.isatty():
        if form == "json":
            raise UsageError("the prompt speaks no JSON", hint="name a script, or write its lines to stdin")
        prompt(machine)
        return 0
    run = _run(machine, script_text(script).splitlines(), draw=form == "text")
    if form == "json":
        emit_json(
            "model pkmap",
            era=prediction.era.name,
            base=hexadecimal(area.base),
            slots=area.slots,
            steps=run.steps,
            **run.ending_json(),
        )
    elif run.steps:
        emit("\n" + paint(LEGEND, dim=True))
    if run.ending is not None:
        raise run.ending
    return 0


@dataclass(frozen=True, slots=True)
class _Run:
    """What a script did, up to the line that ended it, if one did."""

    steps: list[dict[str, Any]]
    line: int
    ending: KvmtoolsError | None = None

    def ending_json(self) -> dict[str, Any]:
        """The kernel's bug, or the error of who wrote the line."""
        bug, error = None, None
        if isinstance(self.ending, KernelBug):
            bug = {"line": self.line, "condition": self.ending.condition, "message": self.ending.message}
        elif self.ending is not None:
            error = {"line": self.line, "message": told(self.ending)}
        return {"bug": bug, "error": error}


def _run(machine: ScriptedPkmap, lines: Sequence[str], *, draw: bool) -> _Run:
    """Run line after line; ``draw`` each as soon as it is done."""
    steps: list[dict[str, Any]] = []
    for number, text in enumerate(lines, 1):
        try:
            done = step(machine, number, text)
        except UsageError as error:
            return _Run(steps, number, UsageError(f"line {number}: {error.message}", hint=error.hint))
        except KernelBug as error:
            if draw:
                emit(paint(f"{number:>3}  {code(text)}", bold=True) + "  → the kernel stops")
            return _Run(steps, number, error)
        if done is not None:
            steps.append(done)
            if draw:
                emit("\n".join(drawn(machine, done)))
    return _Run(steps, len(lines))


def _cut(area: PkmapArea, slots: int) -> PkmapArea:
    """The area with fewer slots.

    :raises UsageError: if no kernel could have so many
    """
    if slots & (slots - 1):
        raise UsageError(
            f"--slots {slots}: LAST_PKMAP is a power of two, for the cursor wraps by LAST_PKMAP_MASK",
            hint=f"{1 << slots.bit_length() - 1} is one",
        )
    if slots > area.slots:
        raise UsageError(
            f"--slots {slots}: this kernel's pkmap has {area.slots}, and what lies above is something else's"
        )
    return PkmapArea(area.base, slots, area.protection)
