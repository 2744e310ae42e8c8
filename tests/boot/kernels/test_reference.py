"""The cache of kernels, with a fake make: an entry is found, or made anew if anything that goes into it changed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from kernel_workplace import Workplace, rubbish

from kvmtools.boot.guests.chosen_kernel import choose
from kvmtools.boot.kernels import build, reference
from kvmtools.errors import BuildError, UsageError
from kvmtools.paths import cache_dir


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


@pytest.mark.parametrize("changed", ["linux/mm.c", "qemu/kernel/memory.config"])
def test_whatever_goes_into_a_kernel_makes_it_another_one(workplace: Workplace, changed: str) -> None:
    first = workplace.ensure()
    with open(workplace.tree.parent / changed, "a") as file:
        file.write("\n")
    assert reference.find("pae", workplace.tree) is None
    assert workplace.ensure().key != first.key


@pytest.mark.parametrize("changed", ["init/init.c", "driver/pages.c"])
def test_a_new_init_or_driver_needs_no_new_kernel(workplace: Workplace, changed: str) -> None:
    first = workplace.ensure()
    calls = workplace.calls()
    with open(workplace.data / changed, "a") as file:
        file.write("\n/* changed */\n")
    assert reference.find("pae", workplace.tree) is None
    assert reference.listing() == [first]
    second = workplace.ensure()
    assert second.key == first.key
    assert second.initrd != first.initrd
    assert reference.listing() == [second]
    (new,) = workplace.calls()[len(calls) :]
    assert " M=" in new
    assert rubbish() == []


def test_what_an_editor_leaves_beside_the_driver_is_none_of_it(workplace: Workplace) -> None:
    first = workplace.ensure()
    driver = workplace.data / "driver"
    (driver / ".pages.c.swp").write_bytes(b"b0VIM 9.0\0\xff")
    (driver / "pages.c~").write_bytes(b"\xff")
    (driver / ".#pages.c").symlink_to("somebody@somewhere.1")
    assert workplace.ensure() == first
    scratch = workplace.data / "scratch"
    scratch.mkdir()
    with open(scratch / "lock", "w") as lock:
        build.build_driver(
            *("pae", workplace.tree, first.bzimage.parent, scratch), lock=lock.fileno(), progress=print
        )
    assert {path.name for path in (scratch / "driver").iterdir()}.isdisjoint({".pages.c.swp", "pages.c~"})


@pytest.mark.parametrize("lost", ["initrd.cpio", "kvmtools.ko", "kvmtools.debug.ko"])
def test_a_ramdisk_that_is_not_whole_is_made_again(workplace: Workplace, lost: str) -> None:
    built = workplace.ensure()
    (built.initrd.parent / lost).unlink()
    assert reference.find("pae", workplace.tree) is None
    assert reference.listing() == reference.damaged() == []
    assert workplace.ensure() == built
    assert (built.initrd.parent / lost).stat().st_size


def test_a_driver_that_does_not_compile_costs_no_kernel(workplace: Workplace) -> None:
    first = workplace.ensure()
    calls = workplace.calls()
    source = workplace.data / "driver/pages.c"
    right = source.read_text()
    source.write_text("#error\n")
    with pytest.raises(BuildError, match=r"pae's driver failed: pages\.c:1:2: error: #error") as caught:
        workplace.ensure()
    assert "#error" in Path(caught.value.hint.removeprefix("the log is ")).read_text()
    assert rubbish() == []
    source.write_text(right)
    assert workplace.ensure() == first
    assert len(workplace.calls()) == len(calls) + 1


DAMAGES = {
    "cut": ("kernel.json", '{"name": "pae", '),
    "empty": ("kernel.json", ""),
    "no object": ("kernel.json", "[]"),
    "a field is missing": ("kernel.json", '{"name": "pae", "pae": true}'),
    "another type": ("kernel.json", '{"name": "pae", "pae": "yes", "release": "6.1"}'),
    "no facts": ("kernel.json", None),
    "no image": ("bzImage", None),
    "no symbols": ("vmlinux", None),
    "nothing to build modules against": ("kbuild", None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_said_and_in_nobodys_way(workplace: Workplace, damage: str) -> None:
    broken, whole = workplace.ensure("pae"), workplace.ensure("nopae")
    entry = broken.bzimage.parent
    name, text = DAMAGES[damage]
    (entry / name).rename(cache_dir() / "lost")
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


def test_a_kernel_of_an_older_kvmtools_is_not_called_damaged(workplace: Workplace) -> None:
    old, whole = workplace.ensure("pae"), workplace.ensure("nopae")
    entry = old.bzimage.parent
    shutil.rmtree(entry / "kbuild")
    old.initrd.rename(entry / "initrd-0123.cpio")
    shutil.rmtree(old.initrd.parent)
    assert (reference.older(), reference.damaged(), reference.listing()) == ([entry], [], [whole])
    (entry / "vmlinux").unlink()
    assert (reference.older(), reference.damaged()) == ([], [entry])


UNUSABLE = ["file in its place", "file above", "not to be read"]


@pytest.fixture(params=UNUSABLE)
def unusable(request: pytest.FixtureRequest, workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kernels that cannot be looked into."""
    folder = cache_dir() / "kernels"
    if request.param == "file above":
        cache_dir().parent.mkdir(parents=True, exist_ok=True)
        cache_dir().write_text("a file")
    else:
        cache_dir().mkdir(parents=True, exist_ok=True)
        folder.write_text("a file")
    if request.param == "not to be read":
        refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        monkeypatch.setattr("os.scandir", Mock(side_effect=refused))
    return folder


def test_a_cache_that_cannot_be_used_is_named(unusable: Path) -> None:
    for ask in (reference.listing, reference.damaged):
        with pytest.raises(BuildError, match=f"the cache {unusable} cannot be used: .*XDG_CACHE_HOME"):
            ask()


def test_a_kernel_by_its_path_needs_no_cache(unusable: Path, tmp_path: Path) -> None:
    image, vmlinux = tmp_path / "bzImage", tmp_path / "vmlinux"
    image.touch()
    vmlinux.touch()
    chosen = choose(str(image), vmlinux, None, lambda _line: None)
    assert (chosen.bzimage, chosen.ours) == (image, False)


def test_which_of_a_name_is_current(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMTOOLS_SOURCE", str(workplace.tree))
    old = workplace.ensure()
    assert reference.current_keys() is not None
    assert old.key in (reference.current_keys() or ())
    with (workplace.tree / "mm.c").open("a") as file:
        file.write("newer")
    new = workplace.ensure()
    assert reference.listing() == [old, new]
    assert old.built <= new.built
    current = reference.current_keys() or ()
    assert [kernel.key in current for kernel in (old, new)] == [False, True]
    monkeypatch.setenv("KVMTOOLS_SOURCE", "/nowhere")
    assert reference.current_keys() is None


def test_a_build_under_way_is_no_damaged_entry(workplace: Workplace) -> None:
    (cache_dir() / "kernels" / ".building-pae" / "entry").mkdir(parents=True)
    assert reference.damaged() == []


def test_an_unknown_kernel_is_a_usage_error(workplace: Workplace) -> None:
    with pytest.raises(UsageError, match="amd64"):
        reference.find("amd64", workplace.tree)
