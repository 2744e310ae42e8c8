"""``model layout``: the address space drawn, and the difference between two eras."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.cli.model.address_space import address_space
from kvmtools.model import eras, machine
from kvmtools.model.prediction import Prediction

Invoke = Callable[..., Any]
MIB, GIB = 1 << 20, 1 << 30


def drawn(invoke: Invoke, *words: str) -> list[str]:
    lines: list[str] = invoke("model", "layout", *words).out.splitlines()
    return lines


def document(invoke: Invoke, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoke("model", "layout", *words, "--format", "json").out)
    assert (found["schema"], found["command"]) == ("kvmtools/1", "model layout")
    return found


def test_2_4_drawn_from_the_top_down(invoke: Invoke) -> None:
    """Gorman 10.1 and FACTS A.1: the numbers of 2.4, 896 MiB of lowmem, 1024 slots."""
    lines = drawn(invoke, "--era", "2.4", "--no-pae", "--memory", "2G")
    assert lines[0] == "2.4, no PAE, NR_CPUS=4, FLATMEM, 2.0 GiB of RAM"
    picture = [line.split() for line in lines[2 : lines.index("")]]
    edges = [words for words in picture if words[0] != "│"]
    assert [words[0] for words in edges if len(words) > 2] == [
        "ffffe000", edges[2][0], "fe000000", "fdffe000", "f8800000", "f8000000", "c0000000",
    ]  # fmt: skip
    assert [words[2] for words in edges if len(words) > 2] == [
        "FIXADDR_TOP", "FIXADDR_START", "PKMAP_BASE", "VMALLOC_END", "VMALLOC_START", "high_memory", "PAGE_OFFSET",
    ]  # fmt: skip
    below = [" ".join(words[1:]) for words in picture if words[0] == "│"]
    assert below[0] == "never mapped 4 KiB"
    assert below[1] == "slot 0 of the fixmap 4 KiB"
    assert below[3].startswith("unused rest of pkmap 27.")
    assert below[4:] == [
        "pkmap, 1024 slots 4 MiB",
        "guard hole 8 KiB",
        "vmalloc, ioremap, modules 88.0 MiB",
        "guard hole 8 MiB",
        "direct map, zone NORMAL 880 MiB",
        "direct map, zone DMA 16 MiB",
        "user space 3 GiB",
    ]


def test_zones_and_limits_below_the_drawing(invoke: Invoke) -> None:
    lines = [" ".join(line.split()) for line in drawn(invoke, "--era", "2.4", "--no-pae", "--memory", "2G")]
    assert "zone start pfn end pfn spanned present present bytes" in lines
    assert "HIGHMEM 0x38000 0x7ffe0 294880 294880 1.1 GiB" in lines
    assert "max_low_pfn 0x38000 896 MiB" in lines
    assert "LAST_PKMAP 1024 4 MiB" in lines
    assert "mem_map 524257 32.0 MiB" in lines
    sparse = drawn(invoke, "--sparsemem", "--no-highmem", "--append", "quiet")
    assert sparse[0] == (
        "6.1, PAE, NR_CPUS=4, SPARSEMEM, 887.6 MiB of RAM (none above 888.0 MiB is used: no HIGHMEM), quiet"
    )
    assert not any(line.startswith(("mem_map", "max_mapnr", "LAST_PKMAP")) for line in sparse)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--era", "7.2"), "3.0 GiB of RAM (none above 4 GiB is used: 7.2 has no HIGHMEM64G)"),
        (("--era", "6.12"), "4.0 GiB of RAM"),
        (("--memory", "65G"), "63.0 GiB of RAM (none above 64 GiB is used: PAE reaches 36 bits)"),
        (("--memory", "63G"), "63.0 GiB of RAM"),
        (("--no-pae",), "3.0 GiB of RAM (none above 4 GiB is used: no PAE)"),
        (
            ("--no-pae", "--e820", "0-640K,1M-1G,2G-5G"),
            "1023.6 MiB of RAM (none above 2 GiB is used: no PAE)",
        ),
        (("--e820", "0-1G,80G-81G"), "1023.6 MiB of RAM (none above 80 GiB is used: PAE reaches 36 bits)"),
        (
            ("--append", "highmem=64M"),
            "949.6 MiB of RAM (none above 950.0 MiB is used: highmem=), highmem=64M",
        ),
        (("--append", "mem=1G"), "1023.6 MiB of RAM, mem=1G"),
        (("--append", "a\x1b[1mb"), "4.0 GiB of RAM, a\\x1b[1mb"),
    ],
)
def test_ram_that_is_not_used(invoke: Invoke, words: tuple[str, ...], said: str) -> None:
    """36 physical bits with PAE, 32 without; 7.2 dropped HIGHMEM64G; 887.6 MiB is MAXMEM of 6.1 with 4 CPUs."""
    assert drawn(invoke, *words)[0].partition("FLATMEM, ")[2] == said


def test_ram_that_is_not_used_in_json(invoke: Invoke) -> None:
    assert document(invoke, "--era", "7.2")["ram"] == {
        "used_bytes": 3 * GIB - 0x20000 - 98 * 4096,
        "unused_from": "0x100000000",
        "why_unused": "7.2 has no HIGHMEM64G",
    }
    all_of_it = document(invoke)["ram"]
    assert (all_of_it["unused_from"], all_of_it["why_unused"]) == (None, None)


@pytest.mark.parametrize("era", eras.NAMES)
@pytest.mark.parametrize("pae", [False, True])
@pytest.mark.parametrize("memory", [64 * MIB, 512 * MIB, 4 * GIB])
def test_areas_cover_all_4_gib(era: str, pae: bool, memory: int) -> None:
    areas = address_space(Prediction(machine.configuration(era, pae=pae, memory=memory)))
    assert (areas[0].end, areas[-1].start) == (1 << 32, 0)
    assert [area.start for area in areas[:-1]] == [area.end for area in areas[1:]]
    assert all(area.start < area.end or area.name == "LDT" for area in areas)


def areas_of(era: str, **changes: Any) -> list[tuple[str, int, str]]:
    found = address_space(Prediction(machine.configuration(era, **changes)))
    return [(area.boundary, area.start, area.name) for area in found]


def test_the_top_of_6_1() -> None:
    """[R]: NR_CPUS=1, PAE."""
    assert areas_of("6.1", nr_cpus=1, memory=2 * GIB, fixmap_slots=(20, 1025))[:11] == [
        ("FIXADDR_TOP", 0xFFFFF000, "never mapped"),
        ("FIXADDR_START", 0xFFFEB000, "fixmap"),
        ("FIXADDR_TOT_START", 0xFFBFE000, "boot-time fixmap"),
        ("", 0xFFA2C000, "unused"),
        ("CPU_ENTRY_AREA_BASE", 0xFFA00000, "CPU entry area, 1 CPU"),
        ("LDT_BASE_ADDR", 0xFF800000, "LDT (no PTI: empty)"),
        ("PKMAP_BASE", 0xFF600000, "pkmap, 512 slots"),
        ("VMALLOC_END", 0xFF5FE000, "guard hole"),
        ("VMALLOC_START", 0xF7DFE000, "vmalloc, ioremap, modules"),
        ("high_memory", 0xF75FE000, "guard hole"),
        ("", 0xC1000000, "direct map, zone NORMAL"),
    ]
    assert ("LDT_BASE_ADDR", 0xFF800000, "LDT") in areas_of(
        "6.1", pti=True, nr_cpus=1, fixmap_slots=(20, 1025)
    )


def test_2_6_18_without_highmem() -> None:
    """vmalloc reaches into the slots for booting, and nothing is unused below them."""
    found = areas_of("2.6.18", pae=False, highmem=False, fixmap_slots=(83, 100))
    assert found[:4] == [
        ("FIXADDR_TOP", 0xFFFFF000, "never mapped"),
        ("FIXADDR_START", 0xFFFAC000, "fixmap"),
        ("VMALLOC_END", 0xFFFAA000, "boot-time fixmap"),
        ("VMALLOC_START", 0xF8800000, "vmalloc, ioremap, modules"),
    ]
    with_pkmap = areas_of("2.6.18", pae=False, fixmap_slots=(83, 100))
    assert with_pkmap[2:5] == [
        ("FIXADDR_BOOT_START", 0xFFF9B000, "boot-time fixmap"),
        ("", 0xFFC00000, "unused"),
        ("PKMAP_BASE", 0xFF800000, "pkmap, 1024 slots"),
    ]


def test_2_4_without_highmem() -> None:
    found = areas_of("2.4", pae=False, highmem=False, fixmap_slots=(16, 16), memory=2 * GIB)
    assert found[:5] == [
        ("", 0xFFFFF000, "never mapped"),
        ("FIXADDR_TOP", 0xFFFFE000, "slot 0 of the fixmap"),
        ("FIXADDR_START", 0xFFFEE000, "fixmap but for slot 0"),
        ("VMALLOC_END", 0xFFFEC000, "guard hole"),
        ("VMALLOC_START", 0xF8800000, "vmalloc, ioremap, modules"),
    ]


def test_the_last_large_page_of_2_4() -> None:
    assert areas_of("2.4", memory=512 * MIB)[-5:-2] == [
        ("", 0xE0000000, "guard hole"),
        ("high_memory", 0xDFFE0000, "rest of the last large page"),
        ("", 0xC1000000, "direct map, zone NORMAL"),
    ]


def test_a_movable_zone_in_lowmem() -> None:
    found = areas_of("6.1", memory=512 * MIB, command_line="kernelcore=64M")
    assert [name for _, _, name in found if "zone" in name] == [
        "direct map, zone MOVABLE",
        "direct map, zone NORMAL",
        "direct map, zone DMA",
    ]


def test_json(invoke: Invoke) -> None:
    found = document(invoke, "--era", "2.4", "--memory", "2G")
    assert (found["era"], found["refusal"]) == ("2.4", None)
    machine_said = ("pae", "nr_cpus", "sparsemem", "highmem", "pti", "page_offset", "append")
    assert [found[name] for name in machine_said] == [True, 4, False, True, False, "0xc0000000", ""]
    other = document(
        invoke,
        *["--no-pae", "--nr-cpus", "2", "--sparsemem", "--no-highmem", "--split", "2G", "--append", "quiet"],
    )
    assert [other[name] for name in machine_said] == [False, 2, True, False, False, "0x80000000", "quiet"]
    assert document(invoke, "--pti")["pti"] is True
    assert found["boundaries"]["pkmap_base"] == "0xfe000000"
    assert found["boundaries"]["ldt_base"] is None
    assert found["limits"]["last_pkmap"] == 512
    assert found["limits"]["max_low_pfn"] == 0x38000
    assert {
        "name": "pkmap, 512 slots",
        "boundary": "PKMAP_BASE",
        "start": "0xfe000000",
        "end": "0xfe200000",
        "size_bytes": 2 * MIB,
    } in found["areas"]
    assert found["areas"][0]["boundary"] is None
    assert found["zones"][2] == {
        "name": "HIGHMEM", "start_pfn": 0x38000, "end_pfn": 0x7FFE0, "present_pages": 0x47FE0,
    }  # fmt: skip
    assert found["mem_map"] == {"entries": 0x7FFE1, "size_bytes": 0x7FFE1 * 64}


def test_a_kernel_that_would_not_boot(invoke: Invoke) -> None:
    """Its address space can be laid out, and has no room for mem_map: 2.4 with 64 GiB."""
    why = "mem_map takes 1040.0 MiB, and the longest free piece of lowmem is "
    words = ("model", "layout", "--memory", "64G")
    outcome = invoke(*words, "--era", "2.4")
    assert outcome.code == 0
    assert outcome.err.startswith(f"kvmtools: this kernel would not boot: {why}")
    assert len(outcome.err.splitlines()) == 1
    assert document(invoke, "--memory", "64G", "--era", "2.4")["refusal"].startswith(why)
    assert invoke(*words, "--diff", "2.4", "6.1").err.startswith(f"kvmtools: 2.4 would not boot: {why}")
    refusals = document(invoke, "--memory", "64G", "--diff", "2.4", "6.1")["refusals"]
    assert (refusals["2.4"].startswith(why), refusals["6.1"]) == (True, None)
    assert invoke(*words).err == ""


def test_the_kind_of_mem_map_decides_whether_a_kernel_boots(invoke: Invoke) -> None:
    words = ("--sizeof-page", "64", "--e820", "0-2G,62G-64G")
    assert document(invoke, *words)["refusal"].startswith("mem_map takes 1024.0 MiB")
    assert document(invoke, *words, "--sparsemem")["refusal"] is None


def test_pti_is_in_the_title(invoke: Invoke) -> None:
    assert drawn(invoke, "--pti")[0] == "6.1, PAE, NR_CPUS=4, FLATMEM, PTI, 4.0 GiB of RAM"


# -- two eras ------------------------------------------------------------------------------------------------


def test_what_changed(invoke: Invoke) -> None:
    lines = drawn(invoke, "--diff", "2.4", "6.1", "--memory", "2G")
    assert lines[0] == "PAE, NR_CPUS=4, FLATMEM, 2.0 GiB of RAM"
    rows = {line.split()[0]: line.split()[1:] for line in lines[2 : lines.index("")]}
    assert lines[1].split() == ["boundary", "2.4", "6.1", "moved"]
    assert rows["pkmap_base"] == ["0xfe000000", "0xff600000", "up", "22", "MiB"]
    assert rows["high_memory"] == ["0xf8000000", "0xf75fe000", "down", "10.0", "MiB"]
    assert rows["max_low_pfn"] == ["0x38000", "0x375fe", "down", "10.0", "MiB"]
    assert rows["ldt_base"] == ["-", "0xff800000", "new"]
    assert not {"page_offset", "last_pkmap"} & rows.keys()
    switches = lines[lines.index("") + 1 :]
    assert switches[0].split() == ["field", "2.4", "6.1"]
    at = next(number for number, line in enumerate(switches) if line.startswith("flush_tlb_always"))
    assert switches[at].split() == ["flush_tlb_always", "yes", "no"]
    assert "mm/highmem.c flush_all_zero_pkmaps" in switches[at + 1]
    assert not any(line.startswith(("marks", "nx_")) for line in switches)


def test_the_way_back(invoke: Invoke) -> None:
    lines = drawn(invoke, "--diff", "6.1", "2.4", "--no-pae")
    assert next(line for line in lines if line.startswith("ldt_base")).split()[-1] == "gone"
    assert next(line for line in lines if line.startswith("pkmap_base")).split()[-3:] == ["down", "20", "MiB"]


def test_what_changed_as_json(invoke: Invoke) -> None:
    found = document(invoke, "--diff", "6.12", "7.2", "--memory", "8G")
    assert found["eras"] == ["6.12", "7.2"]
    assert {"name": "max_pfn", "old": 0x240000, "new": 0x100000} in found["boundaries"]
    assert found["refusals"] == {"6.12": None, "7.2": None}
    # As in the layout of one: addresses in hex, pfns and counts as numbers.
    moved = {
        each["name"]: each for each in document(invoke, "--diff", "2.4", "6.1", "--no-pae")["boundaries"]
    }
    assert moved["pkmap_base"] == {"name": "pkmap_base", "old": "0xfe000000", "new": "0xff400000"}
    assert moved["ldt_base"]["old"] is None
    assert isinstance(moved["max_low_pfn"]["new"], int)
    assert [zone["end_pfn"] for era in ("6.12", "7.2") for zone in found["zones"][era][2:3]] == [
        0x240000,
        0xBFFE0,
    ]
    old, new = found["switches"]
    assert (old["era"], new["era"]) == ("6.12", "7.2")
    assert old["fields"]["highmem64g"]["value"] is True
    assert new["fields"]["highmem64g"] == {
        "value": False,
        "source": eras.source("7.2", "highmem64g"),
    }
    assert "pkmap_base" not in new["fields"]


def test_an_era_compared_with_itself(invoke: Invoke) -> None:
    found = document(invoke, "--diff", "6.1", "6.1")
    assert (found["boundaries"], found["switches"][0]["fields"]) == ([], {})
    assert drawn(invoke, "--diff", "6.1", "6.1")[1:] == ["nothing differs"]


def test_eras_that_use_other_ram_of_the_same_machine(invoke: Invoke) -> None:
    assert drawn(invoke, "--diff", "6.12", "7.2")[:2] == [
        "6.12: PAE, NR_CPUS=4, FLATMEM, 4.0 GiB of RAM",
        "7.2: PAE, NR_CPUS=4, FLATMEM, 3.0 GiB of RAM (none above 4 GiB is used: 7.2 has no HIGHMEM64G)",
    ]


def test_two_eras_that_differ_in_no_boundary(invoke: Invoke) -> None:
    """6.1 and 6.12 with all of a small machine's RAM in lowmem."""
    lines = drawn(invoke, "--diff", "6.1", "6.12", "--memory", "512M")
    assert lines[1].split() == ["field", "6.1", "6.12"]


def test_options_without_effect_are_named(invoke: Invoke) -> None:
    asked = "vmalloc=64M reservetop=16M kernelcore=64M kernelcore=32M rodata=off mem=1G highmem=64M"
    said = invoke("model", "layout", "--era", "2.4", "--append", asked).err
    assert said.splitlines() == [
        f"kvmtools: {name}= has no effect in 2.4"
        for name in ("vmalloc", "reservetop", "kernelcore", "rodata")
    ]
    assert invoke("model", "layout", "--append", asked).err == ""
    assert invoke("model", "layout", "--append", "highmem=64M", "--no-highmem").err == (
        "kvmtools: highmem= has no effect without HIGHMEM\n"
    )
    said = invoke(
        "model", "layout", "--era", "2.4", "--append", "noexec=off pti=on nopti mitigations=off"
    ).err
    assert [line.split()[1] for line in said.splitlines()] == ["noexec=", "pti=", "nopti", "mitigations="]
    assert (
        invoke("model", "layout", "--era", "5.10", "--append", "noexec=off nopti mitigations=off").err == ""
    )
    later = invoke("model", "layout", "--era", "2.6.18", "--append", "vmalloc=64M movablecore=64M").err
    assert later == "kvmtools: movablecore= has no effect in 2.6.18\n"


def test_options_about_features_of_the_processor(invoke: Invoke) -> None:
    def said(*words: str) -> list[str]:
        asked = "noexec=off pti=on mitigations=off"
        lines: list[str] = invoke("model", "layout", "--append", asked, *words).err.splitlines()
        return [line.removeprefix("kvmtools: ") for line in lines]

    # No era has all of them: noexec= went with 5.18, the others came with 4.15 and later.
    assert said() == ["noexec= has no effect in 6.1"]
    assert said("--era", "5.10") == []
    assert said("--era", "5.10", "--no-pae") == [
        f"{name}= has no effect without PAE" for name in ("noexec", "pti")
    ]
    assert said("--era", "2.6.32") == [f"{name}= has no effect in 2.6.32" for name in ("pti", "mitigations")]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--era", "2.4", "--sparsemem"), "2.4 has no SPARSEMEM"),
        (("--split", "2G_OPT"), "not on a boundary of 1024 MiB"),
        (("--diff", "2.4", "6.1", "--no-highmem"), "2.4 has PAE as CONFIG_HIGHMEM64G only"),
        (
            (
                "--era",
                "2.5",
            ),
            "no era is named '2.5'",
        ),
        (("--memory", "1Q"), "no size"),
        (("--diff", "2.4", "6.1", "--era", "5.10"), "--diff names two eras"),
        (("--memory", "2M"), "needs RAM from 16 MiB to 28.8 MiB"),
        (("--era", "2.4", "--memory", "4M"), "needs RAM from 1 MiB to 4304 KiB"),
        (("--append", "mem=2M"), "image does not lie in RAM"),
        (("--no-pae", "--e820", "0-640K,1M-5G"), "forget a range of RAM that does not end below 4 GiB"),
        (("--nr-cpus", "65"), "--nr-cpus is 64 at most"),
        (("--nr-cpus", "33", "--era", "2.4"), "2.4 cannot be built for 33 CPUs"),
        (("--era", "2.6.18", "--append", "memmap=exactmap"), "no usable RAM"),
    ],
)
def test_impossible_machines_are_refused(invoke: Invoke, words: tuple[str, ...], reason: str) -> None:
    outcome = invoke("model", "layout", *words)
    assert outcome.code == 2
    assert reason in str(outcome.error)
