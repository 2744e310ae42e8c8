"""Our configuration fragments, and what kconfig made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmtools.boot.kernels import kconfig, reference
from kvmtools.paths import data_dir


def test_configuration_lines_mean_what_kconfig_means() -> None:
    text = '# note\nCONFIG_A=y\nCONFIG_B="x y"\n# CONFIG_C is not set\nCONFIG_A=m\n# CONFIG_A is odd\n'
    assert kconfig.parse(text) == {"CONFIG_A": "m", "CONFIG_B": '"x y"', "CONFIG_C": "n"}


def test_an_option_that_is_absent_is_not_set(tmp_path: Path) -> None:
    fragment = tmp_path / "memory.config"
    fragment.write_text(
        "# CONFIG_GONE is not set\nCONFIG_KEPT=y\nCONFIG_LOST=y\n# CONFIG_FORCED is not set\n"
    )
    refused = kconfig.not_granted([fragment], "CONFIG_KEPT=y\nCONFIG_FORCED=m\n")
    assert refused == ["CONFIG_LOST=y (became absent)", "CONFIG_FORCED=n (became m)"]


@pytest.mark.parametrize("name", ["PAGE_TABLE_ISOLATION", "MITIGATION_PAGE_TABLE_ISOLATION"])
def test_an_option_may_have_its_newer_name(tmp_path: Path, name: str) -> None:
    fragment = tmp_path / "pae.config"
    fragment.write_text("CONFIG_PAGE_TABLE_ISOLATION=y\n")
    assert kconfig.not_granted([fragment], f"CONFIG_{name}=y\n") == []
    assert kconfig.not_granted([fragment], f"# CONFIG_{name} is not set\n") != []


@pytest.mark.parametrize("name", ["HIGHMEM64G", "HIGHMEM4G"])
def test_the_other_name_is_asked_for_first(tmp_path: Path, name: str) -> None:
    """7.2 knows the second alone; where both exist, as members of one choice, the last line wins."""
    fragment = tmp_path / "pae.config"
    fragment.write_text("CONFIG_HIGHMEM64G=y\n")
    lines = kconfig.merge("CONFIG_NOHIGHMEM=y", [fragment]).splitlines()
    assert lines == ["CONFIG_NOHIGHMEM=y", "CONFIG_HIGHMEM4G=y", "CONFIG_HIGHMEM64G=y"]
    assert kconfig.not_granted([fragment], f"CONFIG_{name}=y\n") == []


def test_a_name_is_only_doubled_where_it_is_asked_for(tmp_path: Path) -> None:
    fragment = tmp_path / "boot.config"
    fragment.write_text("CONFIG_SMP=y\n")
    assert kconfig.merge("", [fragment]).split() == ["CONFIG_SMP=y"]


@pytest.mark.parametrize("option", sorted(kconfig.GONE))
def test_an_option_that_is_gone_may_be_absent_but_not_refused(tmp_path: Path, option: str) -> None:
    fragment = tmp_path / "memory.config"
    fragment.write_text(f"{option}=y\n")
    assert kconfig.not_granted([fragment], "") == []
    assert kconfig.not_granted([fragment], f"# {option} is not set\n") == [f"{option}=y (became n)"]


@pytest.mark.parametrize(("name", "of"), [("numa", "pae"), ("sparse", "nopae")])
def test_a_variant_is_a_kernel_of_ours_and_what_is_different(name: str, of: str) -> None:
    folder = data_dir() / "kernel"
    files = kconfig.fragment_files(folder, name)
    assert files == [*kconfig.fragment_files(folder, of), folder / f"{name}.config"]
    options = kconfig.parse("".join(file.read_text() for file in files))
    assert options["CONFIG_FLATMEM_MANUAL"] == "n"


@pytest.mark.parametrize("name", reference.NAMES)
def test_our_fragments_never_contradict_each_other(name: str) -> None:
    seen: dict[str, str] = {}
    for fragment in kconfig.fragment_files(data_dir() / "kernel", name):
        for option, value in kconfig.parse(fragment.read_text()).items():
            assert seen.setdefault(option, value) == value, f"{option} in {fragment.name}"


@pytest.mark.parametrize(
    ("name", "own"),
    [("nopae", {"CONFIG_HIGHMEM4G"}), ("pae", {"CONFIG_HIGHMEM64G", "CONFIG_PAGE_TABLE_ISOLATION"})],
)
def test_our_kernels_ask_for_a_distributions_memory_management(name: str, own: set[str]) -> None:
    files = kconfig.fragment_files(data_dir() / "kernel", name)
    options = kconfig.parse("".join(file.read_text() for file in files))
    shared = [
        "SMP",
        "SLUB",
        "FLATMEM_MANUAL",
        "HIGHPTE",
        "RANDOMIZE_BASE",
        "MODULES",
        "ZONE_DMA",
        "X86_PAT",
        "MTRR",
    ]
    shared += [
        "DEBUG_INFO_DWARF5",
        "KALLSYMS_ALL",
        "PTDUMP_DEBUGFS",
        "PROC_PAGE_MONITOR",
        "FW_CFG_SYSFS",
        "KEXEC",
    ]
    assert own | {f"CONFIG_{option}" for option in shared} <= {
        o for o, value in options.items() if value == "y"
    }
    assert options["CONFIG_NR_CPUS"] == "4"
