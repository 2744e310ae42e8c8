"""What a command writes is there whole or not at all, and an old file stays until then."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from kvmtools.cli.files import look_writable, write_whole
from kvmtools.errors import OutputError


def test_an_old_file_stays_if_the_new_one_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page.html"
    file.write_text("old")

    def full(path: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(file, b"new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_has_the_mode_that_any_file_of_the_person_has(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "page.html", b"file")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "page.html"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_whole(pipe, b"file")
    assert reader.communicate(timeout=10)[0] == b"file"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["nowhere/page.html", "", "full/page.html"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "full").write_text("a file")
    for refuse in (look_writable, lambda path: write_whole(path, b"data")):
        with pytest.raises(OutputError, match="cannot write") as refused:
            refuse(tmp_path / name)
        assert refused.value.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_full_device_is_noticed() -> None:
    look_writable(Path("/dev/full"))
    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(Path("/dev/full"), b"data")


def test_looking_leaves_nothing_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    look_writable(file)
    assert list(tmp_path.iterdir()) == []
    file.write_text("old")
    look_writable(file)
    assert file.read_text() == "old"
