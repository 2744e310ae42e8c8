"""A kernel that is a little different: without any one symbol, type or member a command shows what does not need it.

Every name that a command asks of the vmlinux of a recorded guest is taken away, one at a time.  Nothing ends in an
internal error; what ends the command is its subject, and its message says so; and where ``zones``, ``memmap``
or ``pkmap`` show something else than with all names, they say which one is missing, in text and in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from lesser_kernel import Asked, Asking, asking, names, says, without
from opened_kernel import always_opens, session_of
from recorded_guest import load

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.errors import SymbolsError
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import Observed

Invoke = Callable[..., Any]
Show = Callable[..., Any]
Words = tuple[str, ...]

NO_KERNEL = {"sizeof pte_t"}
NO_TABLES = {"symbol swapper_pg_dir"}
NO_PAGES = {
    "sizeof struct page",
    "symbol contig_page_data",
    "symbol mem_map",
    "sizeof typeof(mem_map)",
    "symbol max_mapnr",
    "sizeof typeof(max_mapnr)",
    "offset struct pglist_data node_start_pfn",
    "sizeof struct pglist_data node_start_pfn",
    "offset struct pglist_data node_spanned_pages",
    "sizeof struct pglist_data node_spanned_pages",
}
NO_ZONES = {
    "symbol contig_page_data",
    "offset struct pglist_data node_zones",
    "sizeof struct zone",
    "enumerators zone_type",
}
NO_PKMAP = {
    "symbol pkmap_count",
    "array_length typeof(pkmap_count)",
    "symbol pkmap_page_table",
    "sizeof typeof(pkmap_page_table)",
}
NO_PROCESSES = {
    "symbol init_task",
    "sizeof struct task_struct",
    "offset struct task_struct tasks",
    "offset struct task_struct tasks.next",
    "sizeof struct task_struct tasks.next",
    "offset struct task_struct tgid",
    "sizeof struct task_struct tgid",
    "offset struct task_struct mm",
    "sizeof struct task_struct mm",
    "sizeof struct mm_struct",
    "offset struct mm_struct pgd",
    "sizeof struct mm_struct pgd",
}
SUBJECTS: dict[Words, set[str]] = {
    ("zones",): NO_ZONES,
    ("memmap",): NO_PAGES,
    ("memmap", "0x1473"): NO_PAGES,
    ("pkmap",): NO_PKMAP,
    ("layout",): set[str](),
    ("walk", "--region", "pkmap"): NO_TABLES,
    ("walk", "--pid", "1", "--to", "0xc0000000"): NO_PROCESSES,
    ("vtop", "0xc0001000"): NO_TABLES,
    ("vtop", "--pid", "1", "0x8048000"): NO_PROCESSES,
    ("vtop", "--cpu", "0", "0xff800000"): set[str](),
    ("regs",): set[str](),
}
"""Without these names there is nothing that the command could show."""
OBSERVED: tuple[Words, ...] = (("zones",), ("memmap",), ("pkmap",))
"""Those that show one observation, and say what is missing of it.

Elsewhere a boundary that is not there is a ``?`` of its own, and a place in the address space has a wider name.
"""


@pytest.fixture(scope="module", params=["pae", "nopae"])
def whole(request: pytest.FixtureRequest) -> Asking:
    return asking(load(request.param))


@pytest.fixture
def show(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Show:
    """``show(whole, name, "zones")``: the document of a command about the guest's kernel without the name."""

    def document(whole: Asking, name: str, *words: str) -> Any:
        always_opens(monkeypatch, session_of(whole.guest, without(whole.guest, name)))
        return json.loads(invoke(*words, "--format", "json").out)

    return document


@pytest.mark.parametrize(
    "group",
    [OBSERVED, *((words,) for words in SUBJECTS if words not in OBSERVED)],
    ids=lambda group: ", ".join(" ".join(words) for words in group),
)
def test_any_one_name_may_be_missing(
    whole: Asking, group: tuple[Words, ...], invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = without(whole.guest, "")
    vmlinux = kernel.vmlinux
    assert isinstance(vmlinux, Asked)
    asked = set[str]()

    def told(kernel: Kernel, observe: Callable[[], Observed]) -> dict[Words, tuple[Any, Any]]:
        """What each command prints, as text and as JSON."""
        session = session_of(whole.guest, kernel)
        monkeypatch.setattr(session, "observe", lambda *, processes: observe())
        always_opens(monkeypatch, session)
        return {words: (invoke(*words), invoke(*words, "--format", "json")) for words in group}

    def observe() -> Observed:
        asked.update(whole.captures)
        return Observed(kernel.with_memory(whole.guest.snapshot), whole.guest.registers)

    with vmlinux.noting() as noted:
        usual = told(kernel, observe)
    ended: dict[Words, set[str]] = {words: set() for words in group}
    for name in sorted((asked | noted).intersection(names(whole.guest))):
        for words, outcomes in told(without(whole.guest, name), cache(partial(whole.without, name))).items():
            for with_all, outcome in zip(usual[words], outcomes, strict=True):
                said = f"{outcome.out}{outcome.err}{outcome.error or ''}"
                assert outcome.code in {with_all.code, 3}, (name, said)
                if outcome.code == 3:
                    ended[words].add(name)
                if outcome.code == 3 or (words in OBSERVED and outcome.out != with_all.out):
                    assert says(said, name), (name, said)
    assert {words: each - NO_KERNEL for words, each in ended.items()} == {
        words: SUBJECTS[words] for words in group
    }


def test_a_column_and_no_more(whole: Asking, show: Show) -> None:
    usual, lesser = show(whole, "", "zones"), show(whole, "offset struct zone managed_pages", "zones")
    assert lesser["missing"] == ["this kernel has no struct zone.managed_pages"]
    assert [zone | {"managed_pages": None} for zone in usual["zones"]] == lesser["zones"]


def test_what_passes_for_another_state_makes_that_unknown(whole: Asking, show: Show) -> None:
    usual, lesser = show(whole, "", "memmap"), show(whole, "offset struct page mapping", "memmap")
    unknown = dict.fromkeys(("anonymous", "cache", "other"))
    assert lesser["states"] == usual["states"] | unknown
    assert [zone["states"] for zone in lesser["zones"]] == [
        zone["states"] | unknown for zone in usual["zones"]
    ]


def test_pages_whose_zone_is_not_known_are_counted(whole: Asking, show: Show) -> None:
    usual, lesser = show(whole, "", "memmap"), show(whole, "sizeof struct zone", "memmap")
    assert lesser["zones"] is None
    assert lesser["states"]["reserved"] == usual["states"]["reserved"]
    assert lesser["page_count"] == usual["page_count"]


def test_the_slots_without_their_pages(whole: Asking, show: Show) -> None:
    usual, lesser = show(whole, "", "pkmap"), show(whole, "symbol mem_map", "pkmap")
    assert lesser["missing"] == ["this kernel has no symbol mem_map"]
    assert lesser["pkmap"]["used"] == [slot | {"page": None, "zone": None} for slot in usual["pkmap"]["used"]]
    assert lesser["kmap_local"] == usual["kmap_local"]


def test_one_page_without_one_member(whole: Asking, show: Show) -> None:
    (usual,), (lesser,) = (
        show(whole, name, "memmap", "0x1473")["pages"] for name in ("", "offset struct page index")
    )
    assert lesser == usual | {
        "index": None,
        "missing": ["this kernel has no struct page.index or __folio_index"],
    }


def test_an_address_whose_page_is_nowhere(whole: Asking, show: Show) -> None:
    (usual,), (lesser,) = (
        show(whole, name, "vtop", "0xc0001000")["translations"] for name in ("", "symbol mem_map")
    )
    assert lesser == usual | {"page": None, "missing": ["this kernel has no symbol mem_map"]}


def test_the_owner_of_a_page_table_is_not_known_without_the_task_list(whole: Asking, show: Show) -> None:
    usual, lesser = show(whole, "", "regs"), show(whole, "symbol init_task", "regs")
    assert lesser["missing"] == ["this kernel has no symbol init_task"]
    owners = [cpu["page_table"] for cpu in usual["vcpus"]]
    assert [cpu["page_table"] for cpu in lesser["vcpus"]] == [
        None if owner.startswith("pid") else owner for owner in owners
    ]
    assert any(owner.startswith("pid") for owner in owners)


def test_a_process_without_a_name_is_found_by_its_pid(whole: Asking, show: Show) -> None:
    shown = show(whole, "offset struct task_struct comm", "walk", "--pid", "1", "--to", "0xc0000000")
    assert shown["page_table"]["name"] == "pid 1 (?)"


def test_a_script_is_told_by_the_part_that_it_asks_for(whole: Asking) -> None:
    name = "offset struct zone managed_pages"
    session = session_of(whole.guest, without(whole.guest, name))
    zones = OpenKernel(session).zones()
    assert zones[0].present > 0
    with pytest.raises(SymbolsError, match="managed_pages"):
        _ = zones[0].managed
    assert str(zones).splitlines()[-1] == "? this kernel has no struct zone.managed_pages"
