"""``kvmtools model memmap``: three maps of one machine, their bills, their answers and what these cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.cli.model.memmap import KINDS
from kvmtools.errors import UsageError

Invoke = Callable[..., Any]
FAR_APART = "0-640K,1M-2G,32G-34G"


def document(invoke: Invoke, *words: str) -> dict[str, Any]:
    found = json.loads(invoke("model", "memmap", *words, "--format", "json").out)
    assert found["schema"] == "kvmtools/1"
    assert found["command"] == "model memmap"
    return dict(found)


def maps_of(invoke: Invoke, *words: str) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in document(invoke, *words)["maps"]}


def answers_of(invoke: Invoke, *words: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Of one question: by kind, by operation."""
    (question,) = document(invoke, *words)["questions"]
    return {
        kind: {answer["operation"]: answer for answer in answers}
        for kind, answers in question["answers"].items()
    }


def refusal(invoke: Invoke, *words: str) -> UsageError:
    error = invoke("model", "memmap", *words).error
    assert isinstance(error, UsageError)
    return error


def test_the_bill_of_2006(invoke: Invoke) -> None:
    """64 GiB: 512 MB of struct page in lowmem; or the same in highmem and as much of virtual space."""
    maps = maps_of(invoke, "--memory", "64G")
    assert tuple(maps) == KINDS
    mib = 1 << 20
    flat, sparse, virtual = (maps[kind] for kind in KINDS)
    assert (flat["lowmem_bytes"], flat["window_bytes"]) == (512 * mib, 0)
    assert (sparse["lowmem_bytes"], sparse["window_bytes"]) == (504 * mib, 0)
    assert (virtual["lowmem_bytes"], virtual["highmem_bytes"]) == (0, 504 * mib)
    assert virtual["window_bytes"] == 512 * mib
    assert int(virtual["window_end"], 16) - int(virtual["window_start"], 16) == 512 * mib
    assert flat["max_low_pfn"] - virtual["max_low_pfn"] == 512 * mib // 4096
    assert (virtual["leaf_bytes"], flat["leaf_bytes"], flat["window_start"]) == (2 * mib, None, None)


def test_valid_ranges(invoke: Invoke) -> None:
    maps = maps_of(invoke, "--e820", FAR_APART)
    ranges = {kind: [(r["start_pfn"], r["end_pfn"]) for r in each["valid"]] for kind, each in maps.items()}
    assert ranges["flat"] == [(0, 0x880000)]
    assert ranges["sparse"] == ranges["virtual"] == [(0, 0x80000), (0x800000, 0x880000)]
    # The window begins with pfn 0.
    assert maps["virtual"]["valid"][0]["page"] == maps["virtual"]["window_start"]


def test_costs(invoke: Invoke) -> None:
    maps = maps_of(invoke, "--memory", "4G")
    references = {
        kind: {name: cost["references"] for name, cost in each["costs"].items()}
        for kind, each in maps.items()
    }
    assert references["flat"] == dict.fromkeys(references["flat"], 1)
    assert references["sparse"]["page_to_pfn"] == 2
    assert references["virtual"]["pfn_to_page"] == 0
    assert references["virtual"]["pfn_valid"] == 3
    assert references["virtual"]["pfn_valid_by_fault"] == 2
    assert maps_of(invoke, "--leaf", "4K")["virtual"]["costs"]["pfn_valid"]["references"] == 4


def test_the_sample_is_ram_in_lowmem(invoke: Invoke) -> None:
    for words in ((), ("--e820", "0-640K,1M-64M,800M-1G"), ("--memory", "64M")):
        for each in maps_of(invoke, *words).values():
            assert each["sample_pfn"] < each["max_low_pfn"]
            assert not 64 << 8 <= each["sample_pfn"] < 800 << 8 or words != (
                "--e820",
                "0-640K,1M-64M,800M-1G",
            )


def test_summary_text(invoke: Invoke) -> None:
    lines = invoke("model", "memmap", "--e820", FAR_APART, "--leaf", "4K").out.splitlines()
    assert all(len(line) <= 100 and line == line.rstrip() for line in lines)
    text = "\n".join(lines)
    assert "FLATMEM: 0x880000 entries at 0xe65fe000, of which the first 0x880000 are valid" in text
    assert "SPARSEMEM: 8 sections of 512 MiB, their arrays between 0xf55fe000 and lowmem's end" in text
    assert "room for 0x880000 pfns, leaves of 4 KiB" in text
    assert "valid pfns: 0x0-0x80000, 0x800000-0x880000" in text
    assert "costs: references to memory, TLB entries, page-table entries walked" in text
    by_operation = {line.split("  ")[0]: line.split("  ")[1:] for line in lines if "  " in line}
    assert [cell.strip() for cell in by_operation["page_to_pfn"] if cell.strip()] == [
        "1, 1, 1", "2, 2, 3", "0, 0, 0",
    ]  # fmt: skip
    assert "pfn_valid, by fault" in by_operation
    assert "read page->flags" in by_operation
    assert "lowmem_page_address" in by_operation
    assert lines[4].startswith("struct pages: virtual space that holds them; ")
    assert "PageHighMem" in lines[-2]
    assert "\nmeasured at pfn 0x1baff (FLATMEM, SPARSEMEM), pfn 0x" in text
    alone = maps_of(invoke, "--kind", "virtual")["virtual"]["sample_pfn"]
    assert f"\nmeasured at pfn {alone:#x} (virtual)\n" in invoke("model", "memmap", "--kind", "virtual").out


def test_one_kind(invoke: Invoke) -> None:
    for kind in KINDS:
        assert list(maps_of(invoke, "--kind", kind)) == [kind]
    assert "SPARSEMEM" not in invoke("model", "memmap", "--kind", "flat").out


def test_a_kind_that_cannot_be_had_is_named(invoke: Invoke) -> None:
    found = document(invoke, "--era", "2.4")
    assert [each["kind"] for each in found["maps"]] == ["flat", "virtual"]
    assert "2.4 has no SPARSEMEM" in found["refused"]["sparse"]
    text = invoke("model", "memmap", "--era", "2.4").out
    assert "SPARSEMEM cannot be had: no i386 kernel has this configuration: 2.4 has no SPARSEMEM" in text
    assert "2.4 has no SPARSEMEM" in str(refusal(invoke, "--era", "2.4", "--kind", "sparse"))
    assert document(invoke)["refused"] == {}


def test_none_can_be_had(invoke: Invoke) -> None:
    """80 bytes for 64 GiB are 1280 MiB."""
    message = str(refusal(invoke, "--memory", "64G", "--sizeof-page", "80"))
    assert "no kind of mem_map can be had: FLATMEM: no room" in message
    assert "virtual: a window of 1280 MiB" in message


def test_leaves_and_backing(invoke: Invoke) -> None:
    virtual = maps_of(invoke, "--kind", "virtual", "--memory", "4G", "--leaf", "4K", "--backing", "lowmem")[
        "virtual"
    ]
    assert virtual["highmem_bytes"] == 0
    assert virtual["page_tables_bytes"] == 16 * 4096
    assert virtual["lowmem_bytes"] == (32 << 20) + 16 * 4096
    assert virtual["leaf_bytes"] == 4096
    assert maps_of(invoke, "--no-pae")["virtual"]["leaf_bytes"] == 4 << 20
    assert "no leaves of 4194304 bytes" in str(refusal(invoke, "--kind", "virtual", "--leaf", "4M"))
    assert "no leaves of 2097152 bytes" in str(
        refusal(invoke, "--kind", "virtual", "--leaf", "2M", "--no-pae")
    )


@pytest.mark.parametrize("text", ["0x4d2", "1234", "pfn=1234", "pfn=0X4d2"])
def test_a_pfn_is_written_in_many_ways(invoke: Invoke, text: str) -> None:
    said = answers_of(invoke, text)["flat"]
    assert said["pfn_valid"]["answer"] is True
    assert said["page_to_pfn"]["answer"] == 1234
    assert said["page_address"]["answer"] == "0xc04d2000"


def test_all_kinds_answer(invoke: Invoke) -> None:
    said = answers_of(invoke, "--e820", FAR_APART, "0x800123")
    assert {kind: each["page_to_pfn"]["answer"] for kind, each in said.items()} == dict.fromkeys(
        KINDS, 0x800123
    )
    assert [list(each) for each in said.values()] == [
        ["pfn_valid", "pfn_to_page", "page_to_pfn", "page_address", "read"],
        ["pfn_valid", "pfn_to_page", "page_to_pfn", "page_address", "read"],
        ["pfn_valid", "pfn_valid_by_fault", "pfn_to_page", "page_to_pfn", "page_address", "read"],
    ]
    # What the page's flags are is not told: zone and state of a page are no matter of its map.
    assert {kind: each["read"]["answer"] for kind, each in said.items()} == dict.fromkeys(KINDS, True)
    # Highmem: page_address() does not come to lowmem_page_address().
    assert said["sparse"]["page_address"] == {
        "operation": "page_address",
        "answer": None,
        "refusal": None,
        "kernel_stops": False,
        "references": None,
        "tlb_entries": None,
        "walk_references": None,
        "faults": None,
    }
    assert said["sparse"]["page_to_pfn"]["references"] == 2


def test_a_hole(invoke: Invoke) -> None:
    """FLATMEM has struct pages for it; of the others the kernel would touch what is not there."""
    said = answers_of(invoke, "--e820", FAR_APART, "0x80000")
    assert said["flat"]["pfn_valid"]["answer"] is True
    for kind in ("sparse", "virtual"):
        assert said[kind]["pfn_valid"]["answer"] is False
        assert "page_to_pfn" not in said[kind]
        assert said[kind]["read"]["answer"] is None
        assert said[kind]["read"]["kernel_stops"] is True
        assert "has no struct page" in said[kind]["read"]["refusal"]
        assert said[kind]["read"]["references"] is None
    assert said["virtual"]["pfn_valid_by_fault"]["faults"] == 1
    text = invoke("model", "memmap", "--e820", FAR_APART, "0x80000").out
    assert "oops" in text
    assert "1, 1, 1 + 1 fault" in text
    assert "virtual, read page->flags: unable to handle kernel paging request at" in text
    assert "yes" in text
    assert "highmem" in text


def test_a_pfn_that_no_section_can_have(invoke: Invoke) -> None:
    said = answers_of(invoke, "0x1000000")
    assert list(said["sparse"]) == ["pfn_valid", "pfn_to_page"]
    assert "beyond the last section" in said["sparse"]["pfn_to_page"]["refusal"]
    assert said["sparse"]["pfn_to_page"]["kernel_stops"] is False
    assert "refused" in invoke("model", "memmap", "0x1000000").out


def test_a_struct_page_and_an_address(invoke: Invoke) -> None:
    page = answers_of(invoke, "virt=0xc1000abc", "--kind", "flat")["flat"]["virt_to_page"]["answer"]
    back = answers_of(invoke, f"page={page}", "--kind", "flat")["flat"]
    assert back["page_to_pfn"]["answer"] == 0x1000
    assert back["page_address"]["answer"] == "0xc1000000"
    assert list(back) == ["page_to_pfn", "page_address", "read"]
    assert answers_of(invoke, f"page={page[2:]}", "--kind", "flat")["flat"] == back
    virt = answers_of(invoke, "virt=c1000000")
    assert [list(each) for each in virt.values()] == [["virt_to_page", "page_to_pfn", "read"]] * 3
    outside = answers_of(invoke, "virt=0xff000000")["flat"]
    assert list(outside) == ["virt_to_page"]
    assert outside["virt_to_page"]["refusal"] == "0xff000000 is not in lowmem"


def test_many_questions(invoke: Invoke) -> None:
    questions = document(invoke, "5", "virt=0xc0001000")["questions"]
    assert [(each["question"], each["what"]) for each in questions] == [
        ("5", "pfn"),
        ("virt=0xc0001000", "virt"),
    ]
    text = invoke("model", "memmap", "-", stdin="5 # a comment\n6\n").out
    blocks = text.split("\n\n")
    assert [block.split()[0] for block in blocks] == ["costs:", "5", "6"]
    assert blocks[1].splitlines()[0].split() == [
        "5",
        "FLATMEM",
        "cost",
        "SPARSEMEM",
        "cost",
        "virtual",
        "cost",
    ]
    cells = blocks[1].splitlines()[1].split("  ")
    assert [cell.strip() for cell in cells if cell.strip()] == [
        "pfn_valid", "yes", "1, 1, 1", "yes", "1, 1, 1", "yes", "3, 2, 3",
    ]  # fmt: skip
    assert "no " in invoke("model", "memmap", "0xfffff", "--kind", "sparse", "--memory", "1G").out


def test_zero_is_an_address(invoke: Invoke) -> None:
    assert answers_of(invoke, "virt=0")["flat"]["virt_to_page"]["refusal"] == "0x0 is not in lowmem"
    assert "page_to_pfn" in answers_of(invoke, "page=0")["flat"]


def test_stdin_without_a_question(invoke: Invoke) -> None:
    outcome = invoke("model", "memmap", "-", stdin="# nothing\n\n")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "kvmtools: stdin has no question\n")
    said = invoke("model", "memmap", "-", "--format", "json", stdin="").out
    assert json.loads(said)["questions"] == []


@pytest.mark.parametrize("kind", ["flat", "sparse"])
@pytest.mark.parametrize(("option", "value"), [("--leaf", "4K"), ("--backing", "highmem")])
def test_options_of_the_virtual_map_need_it(invoke: Invoke, kind: str, option: str, value: str) -> None:
    message = refusal(invoke, "--kind", kind, option, value).message
    assert message == f"{option} is about the virtual map, and --kind {kind} leaves it out"


def test_one_section(invoke: Invoke) -> None:
    text = invoke("model", "memmap", "--memory", "512M").out
    assert "SPARSEMEM: 1 section of 512 MiB, its array from 0x" in text


@pytest.mark.parametrize(
    "text", ["x", "-1", "page=12", "page=vmalloc", "virt=", "0x", "phys:0x1000", "1.5", "1 2"]
)
def test_what_is_no_question(invoke: Invoke, text: str) -> None:
    error = refusal(invoke, "--", text)
    assert error.message == f"'{text}' is no question"
    assert "page=ADDRESS" in error.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("0x100000000", "a pfn is an unsigned long of 32 bits"),
        ("4294967296", "a pfn is an unsigned long of 32 bits"),
        ("virt=0x100000000", "an address has 32 bits"),
    ],
)
def test_numbers_have_32_bits(invoke: Invoke, text: str, hint: str) -> None:
    assert refusal(invoke, text).message == f"'{text}' is too large"
    assert refusal(invoke, text).hint == hint
    invoke("model", "memmap", "0xffffffff")
