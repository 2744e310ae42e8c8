"""What is ours in the run directory, and what is not: nothing is removed that no start of ours made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guest_place import Place

from kvmtools.boot.guests import lifecycle, ram_location, record, registry
from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.host import detached
from kvmtools.errors import AttachError, GuestVanished, UsageError
from kvmtools.paths import run_dir

REPOSITORY = Path(__file__).resolve().parents[3]


def kvmtools(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from kvmtools.cli import main; main()", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def folder(place: Place, name: str) -> Path:
    """Somebody's folder beside those of our guests, with a file and a tree in it."""
    path = run_dir() / name
    (path / "tree").mkdir(parents=True)
    (path / "tree" / "thesis.txt").write_text("three years")
    (path / "console.log").write_text("not of a guest")
    return path


def symlink(place: Place, name: str) -> Path:
    """A link to somebody's folder, elsewhere."""
    elsewhere = place.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "console.log").write_text("not of a guest")
    (run_dir() / name).symlink_to(elsewhere)
    return elsewhere


def link_to_a_guest(place: Place, name: str) -> Path:
    """A link to a folder that looks like one of ours, elsewhere."""
    elsewhere = symlink(place, name)
    record.write_unfinished(elsewhere, name)
    return elsewhere


def empty(place: Place, name: str) -> Path:
    path = run_dir() / name
    path.mkdir()
    return path


def content(top: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in [top, *top.rglob("*")]}


FOREIGN = [folder, symlink, link_to_a_guest, empty]


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["guest", "list"], 0),
        (["guest", "stop", "--all"], 0),
        (["guest", "stop", "theirs"], 3),
        (["guest", "status"], 0),
        (["check", "-g", "theirs"], 3),
    ],
)
def test_no_command_touches_a_folder_that_is_not_ours(
    place: Place, foreign: Callable[[Place, str], Path], words: list[str], status: int
) -> None:
    top = foreign(place, "theirs")
    before = content(top)
    done = kvmtools(*words)
    assert (done.returncode, content(top)) == (status, before), done.stderr
    assert (run_dir() / "theirs").exists()


@pytest.mark.parametrize("foreign", [folder, symlink, link_to_a_guest])
def test_a_name_whose_folder_is_not_ours_is_refused(
    place: Place, foreign: Callable[[Place, str], Path]
) -> None:
    top = foreign(place, "theirs")
    before = content(top)
    with pytest.raises(UsageError, match="is not a guest's folder"):
        place.start("theirs")
    assert content(top) == before


def test_an_empty_folder_is_taken(place: Place) -> None:
    empty(place, "fake")
    lifecycle.stop(place.start())
    assert place.left_behind() == []


def test_only_files_that_we_make_are_removed(place: Place) -> None:
    guest = place.start()
    (guest.directory / "notes.txt").write_text("mine")
    (guest.directory / "tree").mkdir()
    lifecycle.stop(guest)
    assert sorted(path.name for path in guest.directory.iterdir()) == ["notes.txt", "tree"]
    assert kvmtools("guest", "list").returncode == 0
    assert sorted(path.name for path in guest.directory.iterdir()) == ["notes.txt", "tree"]


def test_a_record_cannot_name_a_file_to_be_removed(place: Place) -> None:
    treasure = place.root / "thesis.ram"
    treasure.write_text("three years")
    guest = place.start()
    changed = {**json.loads(GuestFiles(guest.directory).record.read_text()), "ram": str(treasure)}
    GuestFiles(guest.directory).record.write_text(json.dumps(changed))
    lifecycle.stop(registry.find("fake"))
    assert treasure.exists()
    assert place.left_behind() == []


def test_a_run_directory_that_is_a_link_is_refused(place: Place) -> None:
    elsewhere = place.root / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "fake").mkdir()
    (elsewhere / "fake" / "thesis.txt").write_text("three years")
    (place.root / "run" / "kvmtools").symlink_to(elsewhere)
    before = content(elsewhere)
    for words in (["guest", "list"], ["guest", "stop", "--all"], ["check", "-g", "fake"]):
        done = kvmtools(*words)
        assert done.returncode == 2
        assert "symbolic link" in done.stderr
        assert "XDG_RUNTIME_DIR" in done.stderr
    assert content(elsewhere) == before
    (place.root / "run" / "kvmtools").unlink()


@pytest.mark.parametrize("in_the_way", ["file", "dangling link", "others may write"])
def test_a_run_directory_that_cannot_be_used_is_said(place: Place, in_the_way: str) -> None:
    path = place.root / "run" / "kvmtools"
    if in_the_way == "file":
        path.touch()
    elif in_the_way == "dangling link":
        path.symlink_to(place.root / "nowhere")
    else:
        path.mkdir()
        path.chmod(0o770)
    with pytest.raises(UsageError, match="run directory") as caught:
        run_dir()
    assert "XDG_RUNTIME_DIR" in caught.value.hint
    path.rmdir() if path.is_dir() else path.unlink()


def without(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda data: json.dumps({key: value for key, value in data.items() if key != name})


def with_(name: str, value: object) -> Callable[[dict[str, Any]], str]:
    return lambda data: json.dumps({**data, name: value})


DAMAGES = {
    "a field is missing": (without("accel"), "accel"),
    "no pid": (without("pid"), "pid"),
    "another type": (with_("smp", "two"), "smp"),
    "a pid that names everybody": (with_("pid", -1), "pid"),
    "a path that is none": (with_("qmp", 7), "qmp"),
    "a later schema": (with_("schema", "kvmtools/2"), "kvmtools/2"),
    "no schema": (without("schema"), "schema"),
    "another guest's": (with_("name", "other"), "other"),
    "cut": (lambda data: json.dumps(data)[:40], "JSON"),
    "empty": (lambda data: "", "JSON"),
    "no object": (lambda data: "[]", "object"),
    "no text": (lambda data: "\udcff", "UTF-8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_guest_whose_record_cannot_be_read_is_neither_alive_nor_dead(place: Place, damage: str) -> None:
    guest = place.start()
    path = GuestFiles(guest.directory).record
    whole = path.read_text()
    change, said = DAMAGES[damage]
    path.write_bytes(change(json.loads(whole)).encode(errors="surrogateescape"))
    before = sorted(guest.directory.iterdir())

    listed = kvmtools("guest", "list")
    assert listed.returncode == 0
    assert "'fake' cannot be read" in listed.stderr
    assert said in listed.stderr
    for words in (["guest", "stop", "fake"], ["guest", "stop", "--all"], ["check", "-g", "fake"]):
        done = kvmtools(*words)
        assert done.returncode == 3, words
        assert str(guest.directory) in done.stderr
    with pytest.raises(UsageError, match="cannot be read"):
        place.start()
    assert registry.all_guests() == []
    assert registry.sweep() == []

    assert sorted(guest.directory.iterdir()) == before
    assert guest.ram.exists()
    assert guest.alive
    path.write_text(whole)
    lifecycle.stop(registry.find("fake"))
    assert place.left_behind() == []


def test_the_way_out_of_an_unreadable_record_names_the_process_if_it_lives(place: Place) -> None:
    guest = place.start()
    path = GuestFiles(guest.directory).record
    path.write_text(without("accel")(json.loads(path.read_text())))
    with pytest.raises(AttachError) as caught:
        registry.find("fake")
    assert f"kill {guest.pid}" in caught.value.hint
    detached.end(guest.pid, guest.started, patience=0)
    with pytest.raises(AttachError) as caught:
        registry.find("fake")
    assert "kill" not in caught.value.hint
    assert f"remove {guest.directory}" in caught.value.hint


def test_the_others_are_stopped_whatever_cannot_be_read(place: Place) -> None:
    bad, good = place.start("bad"), place.start("good")
    whole = GuestFiles(bad.directory).record.read_text()
    GuestFiles(bad.directory).record.write_text("{")
    done = kvmtools("guest", "stop", "--all")
    assert done.returncode == 3
    assert "'bad' cannot be read" in done.stderr
    assert (bad.alive, good.alive) == (True, False)
    GuestFiles(bad.directory).record.write_text(whole)
    lifecycle.stop(bad)


def test_a_start_that_was_killed_before_its_qemu_is_cleaned_up(place: Place) -> None:
    directory = run_dir() / "fake"
    directory.mkdir()
    record.write_unfinished(directory, "fake")
    ram_location.create("fake", directory, 1 << 20)
    assert kvmtools("guest", "list").returncode == 0
    assert registry.sweep() == []
    assert not directory.exists()


def test_a_clean_up_that_was_killed_is_finished_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file it comes to last: the folder is still known as ours."""
    guest = place.start()
    detached.end(guest.pid, guest.started, patience=0)
    count = len(list(guest.directory.iterdir()))
    unlink = Path.unlink

    def unlink_and_be_killed(path: Path, missing_ok: bool = False) -> None:
        there = path.exists()
        unlink(path, missing_ok=missing_ok)
        if there:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", unlink_and_be_killed)
    for _ in range(count + 2):
        try:
            registry.find("fake")
        except KeyboardInterrupt:
            continue
        except (GuestVanished, AttachError):
            break
    assert place.left_behind() == []


def test_a_record_comes_back_as_it_was_written(place: Place) -> None:
    guest = place.start()
    assert registry.look("fake") == guest
    lifecycle.stop(guest)
    assert registry.look("fake") is None


def test_a_record_that_cannot_be_written_starts_nothing_that_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up between the first and the second time that the record is written."""
    pids: list[tuple[int, int]] = []
    spawn, written = detached.spawn_detached, record.write

    def remembered(command: list[str], log: Path) -> tuple[int, int]:
        pids.append(spawn(command, log))
        return pids[-1]

    def full(guest: record.Guest) -> None:
        raise OSError(28, os.strerror(28), str(guest.directory))

    monkeypatch.setattr(detached, "spawn_detached", remembered)
    monkeypatch.setattr(record, "write", full)
    with pytest.raises(AttachError, match="No space left on device"):
        place.start()
    ((pid, started),) = pids
    assert not detached.is_alive(pid, started)
    assert place.left_behind() == []
    monkeypatch.setattr(record, "write", written)
    lifecycle.stop(place.start())


def test_a_folder_that_cannot_be_made_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28), "somewhere")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_text", full)
        with pytest.raises(AttachError, match="No space left on device"):
            place.start()
    assert place.left_behind() == []
