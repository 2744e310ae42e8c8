"""The options that describe a machine."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kvmtools.cli.model.options import (
    SPLITS,
    complete_era,
    era_name,
    machine_options,
    machine_request_options,
    size_of,
)
from kvmtools.cli.model.ram_map import ram_map
from kvmtools.errors import UsageError
from kvmtools.model import eras, machine
from kvmtools.records import Configuration, E820Entry

MIB, GIB = 1 << 20, 1 << 30


def configured(*words: str) -> Configuration:
    """What a command with the options is handed over."""
    handed: list[Configuration] = []

    @click.command()
    @machine_options
    def command(configuration: Configuration) -> None:
        handed.append(configuration)

    CliRunner().invoke(command, words, standalone_mode=False, catch_exceptions=False)
    return handed[0]


def test_nothing_said_is_6_1_with_pae_and_4_gib() -> None:
    assert configured() == machine.configuration("6.1", memory=4 * GIB)


def test_everything_said() -> None:
    words = (
        "--era 5.10 --no-pae --memory 1G --split 2G_OPT --nr-cpus 2 --sizeof-page 40 --sparsemem --no-highmem"
    )
    assert configured(*words.split(), "--append", "vmalloc=64M quiet") == machine.configuration(
        "5.10",
        pae=False,
        memory=GIB,
        page_offset=0x78000000,
        nr_cpus=2,
        page_struct_size=40,
        sparsemem=True,
        highmem=False,
        command_line="vmalloc=64M quiet",
    )
    assert configured("--pti").pti


def test_splits_are_kconfigs() -> None:
    assert SPLITS == {
        "3G": 0xC0000000,
        "3G_OPT": 0xB0000000,
        "2G": 0x80000000,
        "2G_OPT": 0x78000000,
        "1G": 0x40000000,
    }


def test_the_same_machine_of_another_era() -> None:
    handed: list[Any] = []

    @click.command()
    @machine_request_options
    def command(request: Any) -> None:
        handed.append(request)

    CliRunner().invoke(command, ["--memory", "1G"], standalone_mode=False, catch_exceptions=False)
    assert handed[0].configuration("2.4") == machine.configuration("2.4", memory=GIB)
    assert handed[0].configuration() == machine.configuration("6.1", memory=GIB)


def test_ram_is_said_once() -> None:
    with pytest.raises(UsageError, match="both say how much RAM"):
        configured("--memory", "1G", "--e820", "0-1G")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("896M", 896 * MIB),
        ("64g", 64 * GIB),
        ("0x1000", 4096),
        ("7", 7),
        (" 1.5G ", 3 * GIB // 2),
        ("0.1g", 107372544),  # 107374182.4 bytes, less the part of a page
        ("4096T", 1 << 52),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize(
    "text", ["", "4Q", "G", "0", "12 M", "-1", "1.5", "1.G", ".5G", "1.5.5G", "9" * 41, "0x"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no size.*896M"):
        size_of(text)


@pytest.mark.parametrize("text", ["4097T", "16E", "99999999999999999999G", "99999999999.9T"])
def test_more_than_any_x86_has(text: str) -> None:
    """SDM vol. 3A, 4.1.4: MAXPHYADDR is at most 52."""
    for parse in (size_of, lambda end: ram_map(f"0-{end}")):
        with pytest.raises(UsageError, match=f"^{text} is beyond the physical addresses of any x86"):
            parse(text)


def test_eras_by_name() -> None:
    assert era_name("2.6.18") == "2.6.18"
    with pytest.raises(UsageError, match="no era is named"):
        era_name("2.6.19")
    option = click.Option(["--era"])
    context = click.Context(click.Command("x"))
    assert [item.value for item in complete_era(context, option, "2.6")] == ["2.6.18", "2.6.24", "2.6.32"]
    assert [item.value for item in complete_era(context, option, "")] == list(eras.NAMES)


# -- RAM maps ------------------------------------------------------------------------------------------------


def test_ranges_are_typed_as_sizes() -> None:
    assert ram_map("0-640K,0x100000-3G,4G-5G") == (
        E820Entry(0, 640 << 10, 1),
        E820Entry(MIB, 3 * GIB - MIB, 1),
        E820Entry(4 * GIB, GIB, 1),
    )
    assert configured("--e820", "0-64M").e820 == (E820Entry(0, 64 * MIB, 1),)
    assert ram_map(" 0 - 640K, 1M-1.5G") == (
        E820Entry(0, 640 << 10, 1),
        E820Entry(MIB, 3 * GIB // 2 - MIB, 1),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0-640K,1M-1M", "range 1M-1M is empty"),
        ("2G-1G", "range 2G-1G is empty"),
        ("0-640X", "'640X' in '0-640X' is no address"),
        ("no/such/file", "cannot read the RAM map no/such/file"),
        ("", "the RAM map is empty"),
        (" ", "the RAM map is empty"),
        ("0-640K,1M", "'1M' is no range"),
        ("1G", "'1G' is no range"),
        ("0-640K,", "'' is no range"),
        ("0-1G-2G", "'0-1G-2G' is no range"),
        ("0-3.5", "'3.5' in '0-3.5' is no address"),
    ],
)
def test_ranges_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ram_map(text)


def test_proc_iomem(tmp_path: Path) -> None:
    """Its ranges name their last byte; indented ones lie inside others."""
    path = tmp_path / "iomem"
    path.write_text(
        "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n000a0000-000bffff : PCI Bus 0000:00\n"
        "00100000-7ffdffff : System RAM\n  01000000-013fffff : Kernel code\n7ffe0000-7fffffff : ACPI Tables\n"
    )
    assert ram_map(str(path)) == (
        E820Entry(0, 0x1000, 2),
        E820Entry(0x1000, 0x9EC00, 1),
        E820Entry(0xA0000, 0x20000, 2),
        E820Entry(0x100000, 0x7FEE0000, 1),
        E820Entry(0x7FFE0000, 0x20000, 3),
    )


def test_boot_logs_new_and_old(tmp_path: Path) -> None:
    """With the last byte since 3.x, with the first one after before."""
    path = tmp_path / "dmesg"
    path.write_text(
        "[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n"
        "[    0.000000] BIOS-e820: [mem 0x000000007ffe0000-0x000000007fffffff] ACPI NVS\n"
        "[    0.000000] NX (Execute Disable) protection: active\n"
        " BIOS-e820: 0000000000100000 - 000000003fff0000 (usable)\r\n"
        " BIOS-e820: 000000003fff0000 - 0000000040000000 (ACPI data)\n"
    )
    assert ram_map(str(path)) == (
        E820Entry(0, 0x9FC00, 1),
        E820Entry(0x7FFE0000, 0x20000, 4),
        E820Entry(0x100000, 0x3FEF0000, 1),
        E820Entry(0x3FFF0000, 0x10000, 3),
    )


def test_a_boot_log_of_7_2(tmp_path: Path) -> None:
    """Other words, two blanks before them, and lines for what lies between (arch/x86/kernel/e820.c)."""
    path = tmp_path / "dmesg"
    path.write_text(
        "[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff]  System RAM\n"
        "[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff]  device reserved\n"
        "[    0.000000] BIOS-e820: [gap 0x00000000000a0000-0x00000000000effff]\n"
        "[    0.000000] BIOS-e820: [mem 0x000000007ffe0000-0x000000007fffffff]  ACPI data\n"
    )
    assert ram_map(str(path)) == (
        E820Entry(0, 0x9FC00, 1),
        E820Entry(0x9FC00, 0x400, 2),
        E820Entry(0x7FFE0000, 0x20000, 3),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n",
            "all addresses are 0 .*to root only",
        ),
        ("00000000-00000000 : Reserved\n", "all addresses are 0 .*to root only"),
        ("00000000-00000fff : Reserved\n", "has no usable RAM .*name a file with lines of"),
        ("nothing of the kind\n", "has no usable RAM .*name a file with lines of"),
        (
            "00000000-0009fbff : System RAM\n7fff0000-00100000 : System RAM",
            "line 2: '7fff.*' ends before it begins",
        ),
        (
            " BIOS-e820: 0000000000100000 - 0000000000000000 (usable)",
            "line 1: 'BIOS.*' ends before it begins",
        ),
        ("00000000-0009fbfg : System RAM\n", "line 1: '00000000-0009fbfg : System RAM' is no range"),
        ("00000000 - 0009fbff : System RAM\n", "line 1: .* is no range"),
        ("00000000-0009fbff: System RAM\n", "line 1: .* is no range"),
        ("00000000-0009fbff\n", "line 1: .* is no range"),
        ("0-9fbfg : System RAM\n", "line 1: .* is no range"),
        ("0009fbff- : System RAM\n", "line 1: .* is no range"),
        ("x\nBIOS-e820: [mem 0x0-0x9fbff usable\n", "line 2: .* is no range"),
        ("[    0.000000] BIOS-e820: [mem 0x0-0x9fbff]\n", "line 1: .* is no range"),
    ],
)
def test_a_file_that_is_no_map(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "map"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"^the RAM map {path}.*{said}"):
        ram_map(str(path))


def test_lines_of_a_log_that_are_about_something_else(tmp_path: Path) -> None:
    path = tmp_path / "dmesg"
    path.write_text(
        "BIOS-provided physical RAM map:\n"
        " BIOS-e820: 0000000000000000 - 0000000000100000 (usable)\n"
        " BIOS-e820: 0000000000100000 - 0000000000200000 type 9\n"
        "device-mapper: ioctl: 4.47.0-ioctl\n"
        "2024-01-01T00:00:00+00:00 host kernel: nothing\n"
        "deadbeef-1234-5678-9abc-def012345678 a UUID\n"
        "  00100000-000fffff : something nested\n"
        "BIOS-e820: [MEM 0X200000-0X2FFFFF] System RAM\n"
    )
    assert ram_map(str(path)) == (
        E820Entry(0, MIB, 1),
        E820Entry(MIB, MIB, 2),
        E820Entry(2 * MIB, MIB, 1),
    )


def test_a_map_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    def stdin(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))

    stdin(b"00000000-03ffffff : System RAM\r\n")
    assert ram_map("-") == (E820Entry(0, 64 * MIB, 1),)
    stdin(b"nothing")
    with pytest.raises(UsageError, match=r"^stdin has no usable RAM "):
        ram_map("-")
    stdin(b"00000000-03fffffx : System RAM\n")
    with pytest.raises(UsageError, match=r"^stdin, line 1: "):
        ram_map("-")
