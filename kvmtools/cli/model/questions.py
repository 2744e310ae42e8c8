"""The questions of ``kvmtools model memmap``: one thing asked of every kind of mem_map, with what the answer costs."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model.bugs import KernelStops
from kvmtools.model.memmaps.conversions import MemMapKind
from kvmtools.model.memmaps.metered_memory import Cost

FORMS = "a pfn (1234 or 0x4d2), page=ADDRESS of a struct page, or virt=ADDRESS in lowmem"
_FORM = re.compile(
    r"(?P<pfn>(?:pfn=)?(?:0[xX][0-9a-fA-F]+|[0-9]+))"
    r"|(?P<what>page|virt)=(?P<address>0|0[xX][0-9a-fA-F]+|[0-9a-fA-F]{8})"
)
_NAMES = {
    "read": "read page->flags",
    "pfn_valid_by_fault": "pfn_valid, by fault",
    "page_address": "lowmem_page_address",
}


class Question(NamedTuple):
    """``number`` is what ``what`` says: a ``"pfn"``, a ``"page"`` or a ``"virt"``ual address."""

    text: str
    what: str
    number: int


class MeasuredAnswer(NamedTuple):
    """What one operation of one kind gave: a value and its cost, or the reason why not.

    A read gives ``True``: of the flags the model keeps only what leads to a section.  ``lowmem_page_address`` of a page
    in highmem has no value and no cost: a kernel does not come to it.
    """

    operation: str
    value: int | bool | None = None
    cost: Cost | None = None
    refusal: str = ""
    stops: bool = False
    """The kernel would not survive the operation."""

    @property
    def name(self) -> str:
        """The operation as a person knows it."""
        return _NAMES.get(self.operation, self.operation)


def question(text: str) -> Question:
    """The question that a person wrote.

    :raises UsageError: if it is none of :data:`FORMS`, or no number of 32 bits
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"'{text}' is no question", hint=f"write {FORMS}")
    if found["pfn"]:
        asked = Question(text, "pfn", _number(found["pfn"].removeprefix("pfn=")))
    else:
        asked = Question(text, found["what"], int(found["address"], 16))
    if asked.number >> 32:
        kind = "a pfn is an unsigned long of" if asked.what == "pfn" else "an address has"
        raise UsageError(f"'{text}' is too large", hint=f"{kind} 32 bits")
    return asked


def _number(text: str) -> int:
    return int(text, 16 if text[:2].lower() == "0x" else 10)


def answers(mem_map: MemMapKind, asked: Question) -> list[MeasuredAnswer]:
    """All that this map has to say, each answer used for the next question as a kernel would."""
    if asked.what == "pfn":
        validity = [name for name in mem_map.operations if name.startswith("pfn_valid")]
        said = [*(_answer(mem_map, name, asked.number) for name in validity)]
        said.append(_answer(mem_map, "pfn_to_page", asked.number))
        page = said[-1].value
        following = ["page_to_pfn", "page_address", "read"] if said[0].value else ["read"]
    elif asked.what == "virt":
        said = [_answer(mem_map, "virt_to_page", asked.number)]
        page, following = said[0].value, ["page_to_pfn", "read"]
    else:
        said, page, following = [], asked.number, ["page_to_pfn", "page_address", "read"]
    if page is None:
        return said
    return [*said, *(_answer(mem_map, name, page) for name in following)]


def _answer(mem_map: MemMapKind, operation: str, argument: int) -> MeasuredAnswer:
    """Ask, and measure; where the kernel would stop or compute nonsense, that is the answer."""
    try:
        value = getattr(mem_map, operation)(argument)
        if value is None:
            return MeasuredAnswer(operation)
        cost = mem_map.cost(operation, argument)
        return MeasuredAnswer(operation, True if operation == "read" else value, cost)
    except (UsageError, KernelStops) as error:
        return MeasuredAnswer(operation, refusal=error.message, stops=isinstance(error, KernelStops))


def answer_json(answer: MeasuredAnswer) -> dict[str, Any]:
    """One answer; addresses are hex strings, pfns numbers, as everywhere."""
    value: Any = answer.value
    if isinstance(value, int) and not isinstance(value, bool) and answer.operation != "page_to_pfn":
        value = f"{value:#x}"
    return {
        "operation": answer.operation,
        "answer": value,
        "refusal": answer.refusal or None,
        "kernel_stops": answer.stops,
        **cost_json(answer.cost),
    }


def cost_json(cost: Cost | None) -> dict[str, int | None]:
    """A cost, or that there is none."""
    return {name: None if cost is None else getattr(cost, name) for name in Cost._fields}
