"""What a command writes is there whole or not at all, and an old file stays until then."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmtools.cli.files import look_writable, write_whole
from kvmtools.errors import OutputError


def test_an_old_file_stays_if_the_new_one_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page.html"
    file.write_text("old")

    def full(path: str, _target: Path) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(os, "replace", full)
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


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "link", tmp_path / "there" / "page.html"
    link.symlink_to("there/page.html")
    for data in (b"new", b"newer"):  # a file that is not there yet, and one that is
        look_writable(link)
        write_whole(link, data)
        assert link.is_symlink()
        assert file.read_bytes() == data
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert os.listdir(tmp_path / "there") == ["page.html"]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "page.html"
    file.write_text("old")
    file.chmod(mode)
    write_whole(file, b"new")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", mode)


@pytest.mark.parametrize("write", [look_writable, lambda path: write_whole(path, b"data")])
def test_a_link_that_lies_in_wait_is_not_followed(tmp_path: Path, write: Callable[[Path], None]) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".page.html.{os.getpid()}").symlink_to(victim)
    write(tmp_path / "page.html")
    assert victim.read_text() == "precious"


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "page.html", b"new")
    assert os.listdir(tmp_path) == []


def test_standard_output_that_is_a_file_is_written_in_turn(tmp_path: Path) -> None:
    """By a link like ``/dev/stdout``, which a fault of ours, run by root, would replace for everybody."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    code = """
import sys
from pathlib import Path
from kvmtools.cli.files import look_writable, write_whole
print("before", flush=True)
look_writable(Path(sys.argv[1]))
write_whole(Path(sys.argv[1]), b"page\\n")
print("behind")
"""
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code, tmp_path / "stdout"], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\npage\nbehind\n"
    assert (tmp_path / "stdout").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["out", "stdout"]
