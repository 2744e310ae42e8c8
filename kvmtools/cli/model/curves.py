"""The curves of ``kvmtools model budget --plot``: the only part of the model's commands that needs matplotlib."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.cli.files import write_whole
from kvmtools.errors import UsageError
from kvmtools.model import budget, eras, machine
from kvmtools.model.budget import Budget, Kind, Limit
from kvmtools.records import Configuration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIB, GIB = 1 << 20, 1 << 30
SMALLEST, BIGGEST = 512 * MIB, 64 * GIB
PER_DOUBLING = 48
FORMATS = {".svg": "svg", ".png": "png"}
METADATA = {"svg": {"Date": None, "Creator": "kvmtools"}, "png": {"Software": "kvmtools"}}

# Colours that are told apart without red and green (Okabe and Ito); FLATMEM below, since the virtual map follows it.
_LINES = (
    (budget.FLATMEM, "FLATMEM", {"color": "#0072B2", "linewidth": 4.5, "alpha": 0.55}),
    (budget.SPARSEMEM, "SPARSEMEM", {"color": "#009E73", "linewidth": 2.0}),
    (
        budget.VIRTUAL,
        "virtual, 4 KiB leaves in highmem",
        {"color": "#000000", "linewidth": 1.4, "dashes": (5, 2)},
    ),
    (budget.VIRTUAL_LOWMEM, "virtual, 4 KiB leaves in lowmem", {"color": "#D55E00", "linewidth": 2.0}),
)
#: Points.  FLATMEM's is drawn first: a mark on top of it leaves its rim.
MARK = {budget.FLATMEM: 20, budget.SPARSEMEM: 14, budget.VIRTUAL: 9, budget.VIRTUAL_LOWMEM: 12}


def draw(configuration: Configuration, path: Path) -> None:
    """Draw what is left of lowmem and what is taken of virtual space, over the RAM of QEMU's machines.

    :raises UsageError: if the file has another suffix than .svg or .png, or matplotlib is not there
    :raises OutputError: if it cannot be written
    """
    if not path.name:
        raise UsageError("--plot names no file", hint=f"end its name in {' or '.join(FORMATS)}")
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise UsageError(
            f"--plot cannot tell the format of {path}", hint=f"end its name in {' or '.join(FORMATS)}"
        )
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib", hint="pip install 'kvmtools[plot]'") from None

    with matplotlib.rc_context():
        # Not the person's own style: the same picture everywhere, byte for byte.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "kvmtools", "svg.fonttype": "none", "font.size": 10})
        figure = Figure(figsize=(10, 7.5), layout="constrained")
        _compose(figure, configuration)
        picture = BytesIO()
        figure.savefig(picture, format=form, dpi=110, metadata=METADATA[form])
    write_whole(path, picture.getvalue())


def _compose(figure: Figure, configuration: Configuration) -> None:
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    sizes = _sizes(configuration)
    known = budget.kinds(configuration)
    for kind, label, style in _LINES:
        if kind not in known:
            continue
        limit = budget.limit(configuration, kind)
        bills = [(memory / GIB, _bill(configuration, kind, memory)) for memory in _up_to(sizes, limit)]
        bills = [(memory, bill) for memory, bill in bills if bill.boots]
        x = [memory for memory, _ in bills]
        for axes, heights in (
            (top, [bill.left / MIB for _, bill in bills]),
            (bottom, [100 * bill.share for _, bill in bills]),
        ):
            axes.plot(x, heights, label=f"{label}{_end(limit)}", **style)
            if limit is not None and limit.reason:
                mark = {"color": style["color"], "markersize": MARK[kind], "zorder": 5, "clip_on": False}
                axes.plot(x[-1:], heights[-1:], "X", **mark)
    _dress(figure, top, bottom, configuration, sizes)


def _dress(
    figure: Figure,
    top: Axes,
    bottom: Axes,
    configuration: Configuration,
    sizes: list[int],
) -> None:
    figure.suptitle(
        "What mem_map leaves of zones DMA and NORMAL\n"
        f"kernel {eras.shown(configuration.marks).name}, {'PAE' if configuration.pae else 'no PAE'},"
        f" PAGE_OFFSET {configuration.page_offset:08x}, struct page of {configuration.page_struct_size} bytes"
    )
    top.set_ylabel("lowmem left (MiB)")
    top.set_ylim(bottom=0)
    bottom.set_ylabel("kernel virtual space\ntaken by mem_map (%)")
    bottom.set_ylim(bottom=0)
    bottom.set_xlabel(
        'RAM of QEMU\'s machine "pc" (logarithmic); from 3.5 GiB on it has a hole of 1 GiB below 4 GiB'
    )
    bottom.set_xscale("log", base=2)
    bottom.set_xlim(sizes[0] / GIB, sizes[-1] / GIB)
    ticks = [memory for memory in (1 << shift for shift in range(29, 37)) if memory <= sizes[-1]]
    bottom.set_xticks([tick / GIB for tick in ticks], [_name(tick) for tick in ticks])
    for axes in (top, bottom):
        axes.grid(True, alpha=0.3)
    top.legend(loc="best")


def _sizes(configuration: Configuration) -> list[int]:
    """RAM sizes in whole MiB, evenly spread on a logarithmic axis."""
    most = min(BIGGEST, budget.BIGGEST_MEMORY[configuration.pae])
    doublings = (most // SMALLEST).bit_length() - 1
    steps = range(doublings * PER_DOUBLING + 1)
    return [round(SMALLEST / MIB * 2 ** (step / PER_DOUBLING)) * MIB for step in steps]


def _end(limit: Limit | None) -> str:
    """What the legend adds to a curve's name."""
    if limit is None:
        return "; never boots"
    return f"; no boot above {_name(limit.memory)} (×)" if limit.reason else ""


def _up_to(sizes: list[int], limit: Limit | None) -> list[int]:
    """The sizes up to the limit, and the limit itself if it is on the axis."""
    if limit is None or limit.memory < sizes[0]:
        return []
    return [*(memory for memory in sizes if memory < limit.memory), min(limit.memory, sizes[-1])]


def _bill(configuration: Configuration, kind: Kind, memory: int) -> Budget:
    return budget.budget(replace(configuration, e820=machine.e820_of(memory)), kind)


def _name(memory: int) -> str:
    return f"{memory / GIB:.4g} GiB" if memory >= GIB else f"{memory // MIB} MiB"
