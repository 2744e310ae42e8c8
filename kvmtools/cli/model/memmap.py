"""``kvmtools model memmap``: a machine's mem_map, kept in three ways, asked and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
from click.core import ParameterSource

from kvmtools.cli.model.options import machine_options
from kvmtools.cli.model.questions import MeasuredAnswer, Question, answer_json, answers, cost_json, question
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.words import words
from kvmtools.errors import UsageError
from kvmtools.model.memmaps.conversions import MemMapKind
from kvmtools.model.memmaps.flat_map import FlatMap, flat_map
from kvmtools.model.memmaps.metered_memory import Cost
from kvmtools.model.memmaps.sparse_map import SparseMap, sparse_map
from kvmtools.model.memmaps.virtual_map import BACKINGS, VirtualMap, virtual_map
from kvmtools.records import PAGE_SIZE, Configuration
from kvmtools.show.style import paint
from kvmtools.show.tables import Heading, columns, hexadecimal, size, table

KINDS = ("flat", "sparse", "virtual")
LEAVES = {"4K": 4 << 10, "2M": 2 << 20, "4M": 4 << 20}
_COST = "costs: references to memory, TLB entries, page-table entries walked if the TLB has none of these"
_BILL = (
    "struct pages: virtual space that holds them; window: set aside for them alone, so lowmem loses it",
    "lowmem, highmem: where their memory is from, page tables included",
)
_HIGHMEM = (
    "with HIGHMEM, page_address() first reads page->flags (PageHighMem); lowmem_page_address follows if",
    "it is lowmem, else a hash's list from its head on (in 2.4 page->virtual): the same for every kind",
)
_TITLES = {"flat": "FLATMEM", "sparse": "SPARSEMEM", "virtual": "virtual"}


@click.command()
@click.argument("questions", metavar="[QUESTION]...", nargs=-1)
@machine_options
@click.option(
    "--kind",
    type=click.Choice([*KINDS, "all"]),
    default="all",
    show_default=True,
    help="How the struct pages are kept.",
)
@click.option(
    "--leaf",
    type=click.Choice(list(LEAVES)),
    help="What backs the virtual map.  [default: large pages, 2M with PAE, 4M without]",
)
@click.option(
    "--backing",
    type=click.Choice(BACKINGS),
    default="highmem",
    show_default=True,
    help="Where its memory comes from; lowmem helps out if there is not enough highmem.",
)
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    configuration: Configuration,
    questions: tuple[str, ...],
    kind: str,
    leaf: str | None,
    backing: str,
    form: str,
) -> None:
    """Build a machine's mem_map as FLATMEM, as SPARSEMEM and as the virtual map that was proposed in 2006.

    Without a QUESTION: what each takes, which pfns are valid, and what a conversion costs.  A QUESTION is a pfn (1234
    or 0x4d2), page=ADDRESS of a struct page, or virt=ADDRESS in lowmem; - reads them from stdin.  Each is answered by
    every kind, with what the answer takes: references to memory (loads and stores of kernel data), TLB entries, and
    the page-table entries that a processor walks if its TLB has none of them.

    lowmem_page_address is the arithmetic for lowmem.  With HIGHMEM, page_address() first reads page->flags for
    PageHighMem, and for a page of highmem it reads the head of a hash's list and its entries instead (in 2.4
    page->virtual); that is the same for all kinds, and not counted.

    \b
    kvmtools model memmap --memory 64G
    kvmtools model memmap --e820 0-640K,1M-2G,32G-34G 0x80000 virt=0xc1000000
    kvmtools model memmap --kind virtual --leaf 4K --backing lowmem page=0xf5000020
    """
    if kind in ("flat", "sparse"):
        for option in ("leaf", "backing"):
            if ctx.get_parameter_source(option) is not ParameterSource.DEFAULT:
                raise UsageError(
                    f"--{option} is about the virtual map, and --kind {kind} leaves it out",
                    hint="drop one of them",
                )
    makers: dict[str, Callable[[], MemMapKind]] = {
        "flat": lambda: flat_map(configuration),
        "sparse": lambda: sparse_map(configuration),
        "virtual": lambda: virtual_map(
            configuration, leaf=None if leaf is None else LEAVES[leaf], backing=backing
        ),
    }
    asked = [question(word) for word in words(questions)] if questions else []
    if questions and not asked:
        note("stdin has no question")
    maps, refusals = _built(makers if kind == "all" else {kind: makers[kind]})
    if form == "json":
        shown = {"questions": _questions_json(asked, maps)} if questions else _summary_json(maps)
        emit_json("model memmap", **shown, refused=refusals)
    elif asked or not questions:
        lines = _questions_text(asked, maps) if asked else _summary_text(maps)
        emit("\n".join([*lines, *_refusals_text(refusals)]))


def _built(makers: dict[str, Callable[[], MemMapKind]]) -> tuple[dict[str, MemMapKind], dict[str, str]]:
    """The maps that can be had, and why the others cannot.

    :raises UsageError: if none can
    """
    maps: dict[str, MemMapKind] = {}
    refusals: dict[str, str] = {}
    for kind, make in makers.items():
        try:
            maps[kind] = make()
        except UsageError as error:
            if len(makers) == 1:
                raise
            refusals[kind] = error.message
    if not maps:
        raise UsageError(
            "no kind of mem_map can be had: "
            + "; ".join(f"{_TITLES[k]}: {why}" for k, why in refusals.items())
        )
    return maps, refusals


def _sample(mem_map: MemMapKind) -> int:
    """A pfn to measure with: RAM in the middle of lowmem, or as near below as there is."""
    middle = mem_map.space.lowmem.end // 2
    below = [r for r in mem_map.space.ram if r.start <= middle]
    return min(middle, below[-1].end - 1)


def _costs(mem_map: MemMapKind) -> dict[str, Cost]:
    """What every operation costs for the sample."""
    pfn = _sample(mem_map)
    page, virtual = mem_map.pfn_to_page(pfn), mem_map.space.direct(pfn * PAGE_SIZE)
    arguments = {"page_to_pfn": page, "page_address": page, "read": page, "virt_to_page": virtual}
    return {name: mem_map.cost(name, arguments.get(name, pfn)) for name in mem_map.operations}


def _summary_text(maps: dict[str, MemMapKind]) -> Iterator[str]:
    heads = columns("map >sizeof >struct_pages >window >lowmem >highmem >page_tables >lowmem_ends_at")
    yield table(heads, [_bill(kind, mem_map) for kind, mem_map in maps.items()])
    yield from (paint(line, dim=True) for line in _BILL)
    for kind, mem_map in maps.items():
        ranges = ", ".join(f"{r.start:#x}-{r.end:#x}" for r in mem_map.valid)
        yield f"\n{paint(_TITLES[kind], bold=True)}: {_place(mem_map)}"
        yield f"valid pfns: {ranges}"
    costs = {kind: _costs(mem_map) for kind, mem_map in maps.items()}
    yield f"\n{_COST}"
    operations = list(dict.fromkeys(name for measured in costs.values() for name in measured))
    rows = [
        [MeasuredAnswer(name).name, *(_cost(measured.get(name)) for measured in costs.values())]
        for name in operations
    ]
    yield table([Heading("operation"), *(Heading(_TITLES[kind]) for kind in maps)], rows)
    yield paint(_measured(maps), dim=True)
    yield from (paint(line, dim=True) for line in _HIGHMEM)


def _measured(maps: dict[str, MemMapKind]) -> str:
    """Where the costs are from: a virtual map ends lowmem earlier, so its sample may be another."""
    samples = {_TITLES[kind]: _sample(mem_map) for kind, mem_map in maps.items()}
    kinds = {pfn: ", ".join(kind for kind, its in samples.items() if its == pfn) for pfn in samples.values()}
    return "measured at " + ", ".join(f"pfn {pfn:#x} ({names})" for pfn, names in kinds.items())


def _bill(kind: str, mem_map: MemMapKind) -> list[object]:
    taken = mem_map.footprint
    sizes = (taken.struct_pages, taken.window, taken.lowmem, taken.highmem, taken.page_tables)
    ends = hexadecimal(mem_map.space.direct(mem_map.space.lowmem.end * PAGE_SIZE))
    return [_TITLES[kind], mem_map.page_struct_size, *map(size, sizes), ends]


def _place(mem_map: MemMapKind) -> str:
    """Where the struct pages are, as far as one line can say it."""
    if isinstance(mem_map, VirtualMap):
        start, end = mem_map.window.start, mem_map.window.end
        return f"window {start:#x}-{end:#x}, room for {mem_map.pages:#x} pfns, leaves of {size(mem_map.leaf)}"
    if isinstance(mem_map, SparseMap):
        section = size(mem_map.section_pages * PAGE_SIZE)
        arrays = mem_map.arrays.values()
        if len(arrays) == 1:
            return f"1 section of {section}, its array from {min(arrays):#x} on"
        return f"{len(arrays)} sections of {section}, their arrays between {min(arrays):#x} and lowmem's end"
    assert isinstance(mem_map, FlatMap)
    return f"{mem_map.length:#x} entries at {mem_map.base:#x}, of which the first {mem_map.max_mapnr:#x} are valid"


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return ""
    faults = f" + {cost.faults} fault" if cost.faults else ""
    return f"{cost.references}, {cost.tlb_entries}, {cost.walk_references}{faults}"


def _questions_text(asked: list[Question], maps: dict[str, MemMapKind]) -> Iterator[str]:
    yield _COST
    for each in asked:
        yield ""
        said = {kind: {answer.name: answer for answer in answers(m, each)} for kind, m in maps.items()}
        heads = [Heading(each.text)]
        for kind in maps:
            heads += [Heading(_TITLES[kind]), Heading("cost")]
        rows = []
        for name in dict.fromkeys(name for by_name in said.values() for name in by_name):
            row = [name]
            for by_name in said.values():
                answer = by_name.get(name)
                row += ["", ""] if answer is None else [_value(answer), _cost(answer.cost)]
            rows.append(row)
        yield table(heads, rows)
        yield from dict.fromkeys(
            f"{_TITLES[kind]}, {answer.name}: {answer.refusal}"
            for kind, by_name in said.items()
            for answer in by_name.values()
            if answer.refusal
        )


def _value(answer: MeasuredAnswer) -> str:
    if answer.refusal:
        return "oops" if answer.stops else "refused"
    if answer.value is None:
        return "highmem"
    return (
        {True: "yes", False: "no"}[answer.value] if isinstance(answer.value, bool) else f"{answer.value:#x}"
    )


def _refusals_text(refusals: dict[str, str]) -> list[str]:
    return [f"{_TITLES[kind]} cannot be had: {why}" for kind, why in refusals.items()]


def _summary_json(maps: dict[str, MemMapKind]) -> dict[str, Any]:
    return {"maps": [_map_json(kind, mem_map) for kind, mem_map in maps.items()]}


def _map_json(kind: str, mem_map: MemMapKind) -> dict[str, Any]:
    virtual = mem_map if isinstance(mem_map, VirtualMap) else None
    return {
        "kind": kind,
        "page_struct_bytes": mem_map.page_struct_size,
        "window_start": hexadecimal(virtual.window.start) if virtual else None,
        "window_end": hexadecimal(virtual.window.end) if virtual else None,
        "leaf_bytes": virtual.leaf if virtual else None,
        "max_low_pfn": mem_map.space.lowmem.end,
        **{f"{name}_bytes": value for name, value in mem_map.footprint._asdict().items()},
        "valid": [
            {"start_pfn": r.start, "end_pfn": r.end, "page": hexadecimal(mem_map.pfn_to_page(r.start))}
            for r in mem_map.valid
        ],
        "sample_pfn": _sample(mem_map),
        "costs": {name: cost_json(cost) for name, cost in _costs(mem_map).items()},
    }


def _questions_json(asked: list[Question], maps: dict[str, MemMapKind]) -> list[dict[str, Any]]:
    return [
        {
            "question": each.text,
            "what": each.what,
            "answers": {kind: [answer_json(a) for a in answers(m, each)] for kind, m in maps.items()},
        }
        for each in asked
    ]
