"""The cache of kernels, with a fake make: an entry appears whole or not at all, and never out of date."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvmtools.boot.kernels import kconfig, reference, sources, toolchain
from kvmtools.errors import BuildError, UsageError
from kvmtools.paths import cache_dir, data_dir

FAKE_MAKE = Path(__file__).with_name("fake_make.py")


@dataclass
class Workplace:
    """A cache of its own, a tree, a copy of our data that may be changed, and what progress was told."""

    tree: Path
    data: Path
    progress: list[str]

    def ensure(self, name: str = "pae", source: Path | None = None) -> reference.Kernel:
        return reference.ensure(name, source or self.tree, progress=self.progress.append)

    def calls(self) -> list[str]:
        calls = self.tree.parent / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    programs = tmp_path / "bin"
    programs.mkdir()
    make = programs / "make"
    make.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_MAKE} "$@"\n')
    make.chmod(0o755)
    monkeypatch.setenv("FAKE_MAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    tree = tmp_path / "linux"
    (tree / "arch/x86").mkdir(parents=True)
    (tree / "Kconfig").write_text("mainmenu\n")
    (tree / "arch/x86/Makefile").write_text("# x86\n")
    data = tmp_path / "qemu"
    shutil.copytree(data_dir(), data)
    command = ["gcc", "-m32", "-ffreestanding", "-c", "-x", "c", "-", "-o", str(tmp_path / "prebuilt.ko")]
    subprocess.run(command, input=b"int driver;", check=True)
    for module in ("reference", "build"):
        monkeypatch.setattr(f"kvmtools.boot.kernels.{module}.data_dir", lambda: data)
    return Workplace(tree, data, [])


def rubbish() -> list[str]:
    """What lies in the cache beside entries and locks."""
    folder = cache_dir() / "kernels"
    return [path.name for path in folder.iterdir() if path.name.startswith(".") and path.suffix != ".lock"]


def test_a_kernel_is_built_once_and_found_afterwards(workplace: Workplace) -> None:
    assert reference.find("pae", workplace.tree) is None
    built = workplace.ensure()
    calls = len(workplace.calls())
    assert calls == 4
    assert workplace.ensure() == built == reference.find("pae", workplace.tree)
    assert len(workplace.calls()) == calls
    assert reference.listing() == [built]
    assert (built.name, built.pae, built.release) == ("pae", True, "6.1.0-fake")
    for path in (built.bzimage, built.vmlinux, built.config, built.initrd):
        assert path.stat().st_size
    assert rubbish() == []


def test_the_two_kernels_differ_where_they_must(workplace: Workplace) -> None:
    pae, nopae = workplace.ensure("pae"), workplace.ensure("nopae")
    assert not nopae.pae
    assert pae.key != nopae.key
    assert [kernel.name for kernel in reference.listing()] == ["nopae", "pae"]


def test_progress_says_what_happens(workplace: Workplace) -> None:
    workplace.ensure()
    assert workplace.progress[0] == "pae: configuring"
    assert any("1 files compiled, mm/highmem.o" in line for line in workplace.progress)


@pytest.mark.parametrize("changed", ["linux/mm.c", "qemu/kernel/memory.config", "qemu/driver/pages.c"])
def test_whatever_goes_into_a_kernel_makes_it_another_one(workplace: Workplace, changed: str) -> None:
    first = workplace.ensure()
    with open(workplace.tree.parent / changed, "a") as file:
        file.write("\n")
    assert reference.find("pae", workplace.tree) is None
    assert workplace.ensure().key != first.key


def test_a_new_init_needs_no_new_kernel(workplace: Workplace) -> None:
    first = workplace.ensure()
    calls = workplace.calls()
    with open(workplace.data / "init/init.c", "a") as file:
        file.write("\n/* changed */\n")
    second = workplace.ensure()
    assert second.key == first.key
    assert second.initrd != first.initrd
    assert workplace.calls() == calls


DAMAGES = {
    "cut": ("kernel.json", '{"name": "pae", '),
    "empty": ("kernel.json", ""),
    "no object": ("kernel.json", "[]"),
    "a field is missing": ("kernel.json", '{"name": "pae", "pae": true}'),
    "another type": ("kernel.json", '{"name": "pae", "pae": "yes", "release": "6.1"}'),
    "no facts": ("kernel.json", None),
    "no image": ("bzImage", None),
    "no symbols": ("vmlinux", None),
    "no driver": ("kvmtools.ko", None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_said_and_in_nobodys_way(workplace: Workplace, damage: str) -> None:
    broken, whole = workplace.ensure("pae"), workplace.ensure("nopae")
    entry = broken.bzimage.parent
    name, text = DAMAGES[damage]
    (entry / name).unlink()
    if text is not None:
        (entry / name).write_text(text)
    assert reference.listing() == [whole]
    assert reference.damaged() == [entry]
    assert reference.find("pae", workplace.tree) is None
    with pytest.raises(BuildError, match=f"{entry.name} is damaged") as caught:
        workplace.ensure("pae")
    assert "remove it" in caught.value.hint
    shutil.rmtree(entry)
    assert workplace.ensure("pae").bzimage.exists()
    assert reference.damaged() == []


def test_a_build_under_way_is_no_damaged_entry(workplace: Workplace) -> None:
    (cache_dir() / "kernels" / ".building-pae" / "entry").mkdir(parents=True)
    assert reference.damaged() == []


@pytest.mark.parametrize("stripping", ["fails", "meets no object file"])
def test_a_driver_that_cannot_be_stripped_is_said(
    workplace: Workplace, tmp_path: Path, stripping: str
) -> None:
    strip = tmp_path / "bin" / "strip"
    if stripping == "fails":
        strip.write_text("#!/bin/sh\necho 'strip: no space' >&2\nexit 1\n")
        strip.chmod(0o755)
    else:
        (tmp_path / "prebuilt.ko").write_bytes(b"no object file")
    with pytest.raises(BuildError, match=r"driver cannot be stripped: .*strip: "):
        workplace.ensure()
    assert reference.listing() == []
    assert rubbish() == []


def test_a_failed_build_leaves_a_log_and_nothing_else(workplace: Workplace) -> None:
    (workplace.tree / "fail").write_text("mm/highmem.c:1:1: error: no such thing")
    with pytest.raises(BuildError, match=r"pae failed: mm/highmem\.c:1:1: error: no such thing") as caught:
        workplace.ensure()
    log = Path(caught.value.hint.removeprefix("the log is "))
    assert "no such thing" in log.read_text()
    assert reference.listing() == []
    assert rubbish() == []


def test_an_option_that_does_not_stick_is_named(workplace: Workplace) -> None:
    (workplace.tree / "refuse").write_text("CONFIG_COMPACTION CONFIG_X86_PAE")
    with pytest.raises(BuildError) as caught:
        workplace.ensure()
    for option in ("CONFIG_COMPACTION=y (became absent)", "CONFIG_X86_PAE=y (became absent)"):
        assert option in caught.value.message
    assert reference.find("pae", workplace.tree) is None


def test_of_two_builders_one_waits_and_both_get_the_same(workplace: Workplace) -> None:
    slow = workplace.tree / "slow"
    slow.write_text("")
    fork = multiprocessing.get_context("fork")
    first = fork.Process(target=workplace.ensure)
    first.start()
    wait_until(lambda: any("bzImage" in call for call in workplace.calls()))
    lines = fork.SimpleQueue()
    second = fork.Process(target=lambda: reference.ensure("pae", workplace.tree, progress=lines.put))
    second.start()
    assert lines.get() == "another kvmtools is building pae: waiting for it"
    slow.unlink()
    first.join()
    second.join()
    lines.close()
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert sum("bzImage" in call for call in workplace.calls()) == 1
    assert len(reference.listing()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing_behind(workplace: Workplace, number: signal.Signals) -> None:
    (workplace.tree / "slow").write_text("")
    builder = multiprocessing.get_context("fork").Process(target=quietly, args=(workplace,))
    builder.start()
    wait_until(lambda: any("bzImage" in call for call in workplace.calls()))
    assert builder.pid is not None
    os.kill(builder.pid, number)
    builder.join()
    assert builder.exitcode != 0
    assert rubbish() == []
    assert reference.listing() == []
    (workplace.tree / "slow").unlink()
    # Its make is gone too, else the lock would still be held and this would wait.
    workplace.ensure()
    assert not any("waiting" in line for line in workplace.progress)


def quietly(workplace: Workplace) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        workplace.ensure()
    except KeyboardInterrupt:
        sys.exit(130)


def wait_until(happened: object, seconds: float = 60.0) -> None:
    assert callable(happened)
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_killed_build_left_is_swept_by_the_next(workplace: Workplace) -> None:
    left = cache_dir() / "kernels/.building-pae/entry"
    left.mkdir(parents=True)
    (left / "vmlinux").write_text("half")
    workplace.ensure()
    assert rubbish() == []


def test_missing_programs_are_named_together_with_their_purpose(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("gcc", "ld", "as", "strip", "gzip"):
        found = shutil.which(name)
        assert found
        (bare / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(bare))
    with pytest.raises(BuildError) as caught:
        workplace.ensure()
    assert "flex (makes the configuration's scanner), bison (" in caught.value.message
    assert "gcc" not in caught.value.message
    assert "apt install" in caught.value.hint
    assert workplace.calls() == []


def test_a_full_disk_is_said_before_anything_starts(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=5 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BuildError, match="5 MiB free"):
        workplace.ensure()
    assert workplace.calls() == []


def test_an_unknown_kernel_is_a_usage_error(workplace: Workplace) -> None:
    with pytest.raises(UsageError, match="amd64"):
        reference.find("amd64", workplace.tree)


@pytest.mark.parametrize("trace", [".config", "include/config/auto.conf"])
def test_a_tree_that_was_built_in_is_refused_and_not_touched(workplace: Workplace, trace: str) -> None:
    (workplace.tree / trace).parent.mkdir(parents=True, exist_ok=True)
    (workplace.tree / trace).write_text("CONFIG_MINE=y\n")
    before = sorted(workplace.tree.rglob("*"))
    with pytest.raises(BuildError, match="built in") as caught:
        workplace.ensure()
    assert "mrproper" in caught.value.hint
    assert sorted(workplace.tree.rglob("*")) == before


def test_a_build_does_not_write_into_the_tree(workplace: Workplace) -> None:
    before = {path: path.stat().st_mtime_ns for path in workplace.tree.rglob("*")}
    workplace.ensure()
    assert {path: path.stat().st_mtime_ns for path in workplace.tree.rglob("*")} == before


def tarball_of(workplace: Workplace) -> Path:
    tarball = workplace.tree.parent / "linux-9.9.tar.xz"
    unused = workplace.tree / "drivers/gpu/drm"
    unused.mkdir(parents=True)
    (unused / "driver.c").write_text("large")
    (unused / "Kconfig").write_text("config DRM\n")
    with tarfile.open(tarball, "w:xz") as archive:
        archive.add(workplace.tree, "linux-9.9")
    return tarball


def test_a_tarball_is_unpacked_once_without_what_is_never_compiled(workplace: Workplace) -> None:
    tarball = tarball_of(workplace)
    workplace.ensure("pae", tarball)
    workplace.ensure("nopae", tarball)
    assert workplace.progress.count("unpacking linux-9.9.tar.xz") == 1
    tree = next((cache_dir() / "sources").glob("linux-9.9-*"))
    assert (tree / "drivers/gpu/drm/Kconfig").exists()
    assert not (tree / "drivers/gpu/drm/driver.c").exists()


def test_a_damaged_tarball_is_reported_and_leaves_nothing(workplace: Workplace) -> None:
    tarball = tarball_of(workplace)
    tarball.write_bytes(tarball.read_bytes()[:-40])
    with pytest.raises(BuildError, match="does not unpack"):
        workplace.ensure("pae", tarball)
    left = [path.name for path in (cache_dir() / "sources").iterdir() if path.suffix != ".lock"]
    assert left == []


def test_what_is_no_source_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    for name in ("empty", "notes.txt", "absent"):
        with pytest.raises(UsageError, match=name):
            sources.locate(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["linux-source-6.1.tar.xz", "linux-source-6.12.tar.xz"], "linux-source-6.12.tar.xz"),
        (["linux-source-6.9.tar.xz", "linux-source-6.12.tar.gz"], "linux-source-6.12.tar.gz"),
        (["linux-source-6.8.0.tar.bz2", "linux-source-6.8.0"], "linux-source-6.8.0.tar.bz2"),
        (
            ["linux-source-7.2.tar.xz", "linux-source-7.2.tar.xz.asc", "linux-patch-9.9.tar.xz"],
            "linux-source-7.2.tar.xz",
        ),
    ],
)
def test_without_a_path_the_distributions_newest_source_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], taken: str
) -> None:
    monkeypatch.setattr(sources, "_DISTRIBUTION", tmp_path)
    monkeypatch.delenv(sources.CHOSEN, raising=False)
    for name in names:
        (tmp_path / name).touch() if ".tar" in name else (tmp_path / name).mkdir()
    assert sources.locate(None).path == tmp_path / taken


def test_without_any_source_there_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_DISTRIBUTION", tmp_path)
    monkeypatch.delenv(sources.CHOSEN, raising=False)
    with pytest.raises(BuildError, match="no kernel source") as caught:
        sources.locate(None)
    assert "--source" in caught.value.hint
    assert reference.find("pae") is None


def test_the_environment_may_name_the_source(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sources.CHOSEN, str(workplace.tree))
    built = reference.ensure("pae", progress=workplace.progress.append)
    assert built == reference.find("pae", workplace.tree)
    # What is named on the command line comes first.
    assert sources.locate(tarball_of(workplace)).path.name == "linux-9.9.tar.xz"
    monkeypatch.setenv(sources.CHOSEN, "/nowhere")
    with pytest.raises(UsageError, match=f"'/nowhere' .from {sources.CHOSEN}. is neither"):
        reference.ensure("pae", progress=workplace.progress.append)


def test_the_callers_environment_does_not_steer_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARCH", "MAKEFLAGS", "KBUILD_OUTPUT", "CROSS_COMPILE"):
        monkeypatch.setenv(name, "mine")
    environment = toolchain.environment()
    assert "mine" not in environment.values()
    assert environment["LC_ALL"] == "C"


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
