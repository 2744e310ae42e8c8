"""Where a kernel's source comes from: somebody's tree, left as it is, or a tarball, unpacked once."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from kernel_workplace import Workplace

from kvmtools.boot.kernels import reference, sources
from kvmtools.errors import BuildError, UsageError
from kvmtools.paths import cache_dir


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
