from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmtools.errors import OutputError
from kvmtools.whole_file import whole_file


def test_it_is_there_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with whole_file(path) as file:
        file.write(b"after")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["out"]
    assert path.stat().st_mode & 0o077 == 0, "a guest's memory is not for everybody"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with pytest.raises(error):  # noqa: PT012, SIM117
        with whole_file(path) as file:
            file.write(b"half")
            raise error
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["out"]


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may become larger than 64 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path: Path, little_room: None) -> None:
    with pytest.raises(OutputError, match=f"cannot write .*: {os.strerror(errno.EFBIG)}"):  # noqa: SIM117
        with whole_file(tmp_path / "out") as file:
            file.write(bytes(1 << 20))
    assert os.listdir(tmp_path) == []


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    with whole_file(tmp_path / "link") as file:
        file.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("place", ["/dev/null", "."])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, place: str) -> None:
    with pytest.raises(OutputError, match="is not a file"), whole_file(tmp_path / place):
        pass
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*none/out: No such file"):  # noqa: SIM117
        with whole_file(tmp_path / "none" / "out"):
            pass
