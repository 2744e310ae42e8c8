"""Every place and form in which distributions ship what debugs a kernel; and what is said where there is none."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from images import load_image
from linked_kernel import RELEASE, Link, halves, linker, objcopy

from kvmtools.errors import SymbolsError
from kvmtools.observe.kernel import Kernel, find_kernel, locate
from kvmtools.observe.symbols import debug_file
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.paths import cache_dir
from kvmtools.records import Registers

SLIDE = 0x60_0000
RUNNING = Registers(0, 0xC100_0000, 0x8005_0033, 0, 0, 0)


@pytest.fixture
def link(compiled: Callable[..., Path], tmp_path: Path) -> Link:
    return linker(compiled, tmp_path)


@pytest.fixture
def whole(link: Link) -> Path:
    return link()


@pytest.fixture
def build_id(whole: Path) -> str:
    return Vmlinux.load(whole).build_id


@pytest.fixture
def memory(little_memory: Callable[..., Any], whole: Path) -> Any:
    """A guest that runs it."""
    memory = little_memory((0, 0xA0000), (0x100000, 24 << 20))
    load_image(memory, whole, SLIDE)
    return memory


@pytest.fixture(autouse=True)
def standard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /usr/lib/debug; and nobody's server is asked."""
    monkeypatch.setattr(debug_file, "STANDARD", str(tmp_path / "usr-lib-debug"))
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    return tmp_path / "usr-lib-debug"


def asked(kernel: Kernel) -> tuple[int, int, bytes, int]:
    """What only DWARF, symbols and the image tell."""
    vmlinux = kernel.vmlinux
    return (
        vmlinux.sizeof("struct page"),
        vmlinux.array_length("typeof(pages)"),
        kernel.banner,
        vmlinux.symbol("last_number"),
    )


def by_build_id(folder: Path, build_id: str) -> Path:
    return folder / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"


STRIPPED = {
    "beside": lambda place, _standard, _build_id: place / "vmlinux.debug",
    "in .debug": lambda place, _standard, _build_id: place / ".debug" / "vmlinux.debug",
    "by its path": lambda place, standard, _build_id: Path(f"{standard}{place}/vmlinux.debug"),
    "by build id": lambda _place, standard, build_id: by_build_id(standard, build_id),
    "of a package": lambda _place, standard, _build_id: standard / "boot" / f"vmlinux-{RELEASE}",
    "of modules": lambda _place, standard, _build_id: standard / "lib/modules" / RELEASE / "vmlinux",
    "SUSE's": lambda _place, standard, _build_id: standard / "lib/modules" / RELEASE / "vmlinux.debug",
}


@pytest.mark.parametrize("where", STRIPPED)
@pytest.mark.parametrize("image", ["vmlinux", "vmlinux.gz"])
def test_a_stripped_vmlinux_and_what_debugs_it(
    where: str, image: str, whole: Path, memory: Any, standard: Path, tmp_path: Path, build_id: str
) -> None:
    place = tmp_path / "boot"
    place.mkdir()
    debug = STRIPPED[where](place, standard, build_id)
    halves(whole, place / "vmlinux", place / "vmlinux.debug")
    debug.parent.mkdir(parents=True, exist_ok=True)
    (place / "vmlinux.debug").rename(debug)
    if image == "vmlinux.gz":
        (place / image).write_bytes(gzip.compress((place / "vmlinux").read_bytes()))
        (place / "vmlinux").unlink()
    kernel = locate(memory, Vmlinux.load(place / image))
    assert kernel.slide == SLIDE
    assert asked(kernel) == asked(locate(memory, Vmlinux.load(whole)))
    assert kernel.vmlinux.files()[1] == kernel.vmlinux.path == debug


PACKED = {
    "gzip": lambda data: gzip.compress(data),
    "bzip2": lambda data: bz2.compress(data),
    "xz": lambda data: lzma.compress(data),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": lambda data: by_program(data, "zstd", "-qc"),
    "lz4": lambda data: by_program(data, "lz4", "-c"),
    "lz4, old": lambda data: by_program(data, "lz4", "-lc"),
    "lzo": lambda data: by_program(data, "lzop", "-c"),
}


def by_program(data: bytes, program: str, option: str) -> bytes:
    if shutil.which(program) is None:
        pytest.skip(f"the program {program} is not installed")
    return subprocess.run([program, option], input=data, check=True, capture_output=True).stdout


@pytest.mark.parametrize("form", PACKED)
def test_a_packed_vmlinux(
    form: str, whole: Path, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    packed = tmp_path / "vmlinux.packed"
    packed.write_bytes(PACKED[form](whole.read_bytes()))
    kernel = locate(memory, Vmlinux.load(packed))
    assert asked(kernel) == asked(locate(memory, Vmlinux.load(whole)))
    assert kernel.vmlinux.path == packed
    assert not list(place.iterdir())


def bz_image(payload: bytes) -> bytes:
    """A boot sector, three of setup, and the decompressor with its load (Documentation/arch/x86/boot.rst)."""
    data = bytearray(4 * 512)
    data[0x1F1] = 3
    data[0x202:0x208] = b"HdrS" + (0x20F).to_bytes(2, "little")
    data[0x248:0x250] = (64).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    return bytes(data) + bytes(64) + payload + b"the end of the decompressor"


@pytest.mark.parametrize("form", PACKED)
def test_a_vmlinuz(form: str, whole: Path, memory: Any, standard: Path, tmp_path: Path) -> None:
    """It holds a vmlinux without sections' names or symbols, and relocations behind it."""
    objcopy(whole, standard / "boot" / f"vmlinux-{RELEASE}", "--only-keep-debug")
    inner = objcopy(whole, tmp_path / "vmlinux.bin", "-R", ".comment", "-S").read_bytes() + b"relocations"
    size = b"" if form == "gzip" else len(inner).to_bytes(4, "little")
    vmlinuz = tmp_path / "vmlinuz"
    vmlinuz.write_bytes(bz_image(PACKED[form](inner) + size))
    kernel = locate(memory, Vmlinux.load(vmlinuz))
    assert asked(kernel) == asked(locate(memory, Vmlinux.load(whole)))


@pytest.mark.parametrize("compression", ["zlib", "zlib-gnu", "zstd"])
def test_packed_sections(compression: str, whole: Path, memory: Any, tmp_path: Path) -> None:
    try:
        packed = objcopy(whole, tmp_path / "vmlinux", f"--compress-debug-sections={compression}")
    except subprocess.CalledProcessError:
        pytest.skip(f"this objcopy knows no {compression}")
    assert asked(locate(memory, Vmlinux.load(packed))) == asked(locate(memory, Vmlinux.load(whole)))


@pytest.mark.parametrize("strip", [(), ("--compress-debug-sections=zlib",)])
def test_what_debugs_it_is_enough_alone(
    strip: tuple[str, ...], whole: Path, memory: Any, tmp_path: Path
) -> None:
    alone = objcopy(whole, tmp_path / "alone" / "kernel.debug", "--only-keep-debug", *strip)
    kernel = locate(memory, Vmlinux.load(alone))
    assert kernel.slide == SLIDE
    assert asked(kernel) == asked(locate(memory, Vmlinux.load(whole)))


def test_what_half_a_file_does_not_say_is_not_remembered(whole: Path, memory: Any, tmp_path: Path) -> None:
    """Neither file poisons what the other one is asked: both have one build id."""
    stripped, alone = tmp_path / "one" / "vmlinux", tmp_path / "other" / "vmlinux.debug"
    alone.parent.mkdir()
    stripped.parent.mkdir()
    halves(whole, stripped, alone)
    for _ in range(2):
        vmlinux = locate(memory, Vmlinux.load(alone)).vmlinux
        assert vmlinux.banner is None
        vmlinux.save()
        (facts,) = (cache_dir() / "facts").iterdir()
        assert 'linux_banner": null' not in facts.read_text()
    known = locate(memory, Vmlinux.load(stripped)).vmlinux
    assert known.banner == Vmlinux.load(whole).banner
    with pytest.raises(SymbolsError, match="no DWARF in"):
        known.has_type("struct nobody_asked_for")
    known.save()
    assert "nobody" not in facts.read_text()
    assert Vmlinux.load(whole).banner in locate(memory, Vmlinux.load(whole)).banner


def test_a_half_that_nothing_proves_to_be_the_guests_is_refused(
    link: Link, little_memory: Callable[..., Any], tmp_path: Path
) -> None:
    whole = link("no id", "-Wl,--build-id=none")
    memory = little_memory((0x100000, 24 << 20))
    load_image(memory, whole, SLIDE)
    assert locate(memory, Vmlinux.load(whole)).slide == SLIDE
    half = objcopy(whole, tmp_path / "half", "--only-keep-debug")
    with pytest.raises(SymbolsError):
        locate(memory, Vmlinux.load(half))


FOLDERS = {
    "a build tree": lambda folder, _build_id: folder / "vmlinux",
    "what debugs it": lambda folder, _build_id: folder / "vmlinux.debug",
    "packed": lambda folder, _build_id: folder / "vmlinux.xz",
    "debug files": lambda folder, build_id: by_build_id(folder, build_id),
    "of debug files": lambda folder, _build_id: folder / "boot" / f"vmlinux-{RELEASE}",
    "a package's": lambda folder, _build_id: folder / "usr-lib-debug/lib/modules" / RELEASE / "vmlinux",
}


@pytest.mark.parametrize("where", FOLDERS)
def test_a_folder(
    where: str,
    whole: Path,
    memory: Any,
    tmp_path: Path,
    build_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(debug_file, "STANDARD", "/usr-lib-debug")
    file = FOLDERS[where](tmp_path / "folder", build_id)
    file.parent.mkdir(parents=True)
    data = whole.read_bytes()
    file.write_bytes(lzma.compress(data) if where == "packed" else data)
    kernel = find_kernel(memory, tmp_path / "folder", None, ())
    assert kernel.slide == SLIDE
    assert asked(kernel) == asked(locate(memory, Vmlinux.load(whole)))


@pytest.mark.parametrize("note", [True, False])
def test_without_a_name_it_is_found_by_what_lies_in_memory(
    note: bool, whole: Path, memory: Any, standard: Path, build_id: str
) -> None:
    by_build_id(standard, build_id).parent.mkdir(parents=True)
    by_build_id(standard, build_id).write_bytes(whole.read_bytes())
    vmcoreinfo = f"OSRELEASE={RELEASE}\nBUILD-ID={build_id}\nPAGESIZE=4096\n" if note else None
    kernel = find_kernel(memory, None, vmcoreinfo, ())
    assert asked(kernel) == asked(locate(memory, Vmlinux.load(whole)))
    assert kernel.vmlinux.path == by_build_id(standard, build_id)


def test_what_was_learned_of_it_needs_no_file(
    whole: Path, memory: Any, standard: Path, build_id: str
) -> None:
    asked(kernel := locate(memory, Vmlinux.load(whole)))
    kernel.vmlinux.save()
    assert asked(find_kernel(memory, None, None, ())) == asked(kernel)
    assert not standard.exists()


def test_what_was_learned_of_half_a_file_needs_none_either(whole: Path, memory: Any, tmp_path: Path) -> None:
    objcopy(whole, tmp_path / "folder" / "vmlinux.debug", "--only-keep-debug")
    asked(kernel := find_kernel(memory, tmp_path / "folder"))
    kernel.vmlinux.save()
    assert asked(find_kernel(memory)) == asked(kernel)


def test_a_kernel_without_a_build_id_is_found_by_its_release(
    link: Link, little_memory: Callable[..., Any], standard: Path
) -> None:
    whole, other = link("no id", "-Wl,--build-id=none"), link("other", "-Wl,--build-id=none")
    memory = little_memory((0x100000, 24 << 20))
    load_image(memory, whole, SLIDE)
    file = standard / "boot" / f"vmlinux-{RELEASE}"
    file.parent.mkdir(parents=True)
    file.write_bytes(whole.read_bytes())
    assert find_kernel(memory).slide == SLIDE
    file.write_bytes(other.read_bytes())
    with pytest.raises(SymbolsError, match="this vmlinux is not the guest's kernel"):
        find_kernel(memory)


def test_remains_of_an_earlier_boot_are_tried_and_left(
    link: Link, whole: Path, memory: Any, standard: Path
) -> None:
    """The lower one has its files, too, but its banner was overwritten since."""
    earlier = link("earlier")
    old = Vmlinux.load(earlier)
    load_image(memory, earlier, 0x20_0000)
    for each in (earlier, whole):
        file = by_build_id(standard, Vmlinux.load(each).build_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(each.read_bytes())
    memory.write(old.symbol("linux_banner") - old.page_offset + 0x20_0000, b"X")
    memory.write(0x140_0000, f"OSRELEASE={RELEASE}\nBUILD-ID={old.build_id}\n".encode())
    assert find_kernel(memory, None, f"OSRELEASE={RELEASE}\nBUILD-ID={old.build_id}\n").slide == SLIDE


def test_memory_full_of_what_looks_like_kernels_comes_to_an_end(
    memory: Any, standard: Path, whole: Path, build_id: str
) -> None:
    """And the name of a file that a guest makes up leads nowhere else."""
    standard.mkdir()
    (standard.parent / "vmlinux-x").write_bytes(whole.read_bytes())
    (standard / "boot").mkdir()
    text = b"".join(
        b"Linux version 6.1.0/../../../vmlinux-x (%d somebody@somewhere)\n\0" % number
        for number in range(9999)
    )
    memory.write(0x10_0000, text)
    assert "no DWARF" in refused(lambda: find_kernel(memory)).message


def refused(call: Callable[[], object]) -> SymbolsError:
    with pytest.raises(SymbolsError) as caught:
        call()
    return caught.value


def test_where_nothing_is_found_every_place_is_named(
    whole: Path, memory: Any, standard: Path, build_id: str, tmp_path: Path
) -> None:
    error = refused(lambda: find_kernel(memory))
    assert error.message == f"no DWARF for the guest's kernel {RELEASE} (build id {build_id})"
    for place in (by_build_id(standard, build_id), standard / "boot" / f"vmlinux-{RELEASE}"):
        assert str(place) in error.hint
    for way in (f"linux-image-{RELEASE}-dbg", "DEBUGINFOD_URLS", "-s", "CONFIG_DEBUG_INFO_DWARF5=y"):
        assert way in error.hint
    halves(whole, tmp_path / "vmlinux", tmp_path / "vmlinux.debug")
    (tmp_path / "vmlinux.debug").unlink()
    error = refused(lambda: locate(memory, Vmlinux.load(tmp_path / "vmlinux")))
    assert error.message == f"no DWARF in {tmp_path / 'vmlinux'} (build id {build_id})"
    assert error.hint.startswith("looked for /")
    assert f", {tmp_path / 'vmlinux.debug'}, " in error.hint


def test_what_is_another_kernels_is_refused_with_both_build_ids(
    link: Link, whole: Path, memory: Any, standard: Path, build_id: str, tmp_path: Path
) -> None:
    other = link("other")
    others_id = Vmlinux.load(other).build_id
    halves(whole, tmp_path / "vmlinux", tmp_path / "vmlinux.debug")
    objcopy(other, tmp_path / "vmlinux.debug", "--only-keep-debug")
    for seek in (
        lambda: locate(memory, Vmlinux.load(tmp_path / "vmlinux")),
        lambda: find_kernel(memory, tmp_path),
    ):
        said = refused(seek).message
        assert build_id in said
        assert f"{tmp_path / 'vmlinux.debug'} has build id {others_id}" in said
    file = by_build_id(standard, build_id)
    file.parent.mkdir(parents=True)
    file.write_bytes(other.read_bytes())
    said = refused(lambda: find_kernel(memory)).message
    assert f"{file} has build id {others_id}" in said
    assert build_id in said


def test_a_checksum_that_differs_is_said(
    link: Link, little_memory: Callable[..., Any], tmp_path: Path
) -> None:
    """Where there is no build id, nothing else tells whose file it is."""
    whole, other = link("no id", "-Wl,--build-id=none"), link("other", "-Wl,--build-id=none")
    memory = little_memory((0x100000, 24 << 20))
    load_image(memory, whole, SLIDE)
    stripped, debug = tmp_path / "vmlinux", tmp_path / "vmlinux.debug"
    halves(whole, stripped, debug)
    assert locate(memory, Vmlinux.load(stripped)).slide == SLIDE
    objcopy(other, debug, "--only-keep-debug")
    said = refused(lambda: locate(memory, Vmlinux.load(stripped)))
    assert f"{debug} has CRC 0x" in said.message
    assert ".gnu_debuglink says CRC 0x" in said.message


def test_with_a_build_id_the_checksum_does_not_matter(whole: Path, memory: Any, tmp_path: Path) -> None:
    """Such as of a file whose sections were packed later; whatever its name is."""
    halves(whole, tmp_path / "vmlinux", tmp_path / "other-name.debug")
    objcopy(tmp_path / "other-name.debug", tmp_path / "other-name.debug", "--compress-debug-sections=zlib")
    assert locate(memory, Vmlinux.load(tmp_path / "vmlinux")).slide == SLIDE


def test_damage_is_said(whole: Path, memory: Any, tmp_path: Path) -> None:
    halves(whole, tmp_path / "vmlinux", tmp_path / "vmlinux.debug")
    data = (tmp_path / "vmlinux.debug").read_bytes()
    (tmp_path / "vmlinux.debug").write_bytes(data[: len(data) // 2])
    assert str(tmp_path) in refused(lambda: locate(memory, Vmlinux.load(tmp_path / "vmlinux"))).message
    for name, packed in (
        ("xz", lzma.compress(data)),
        ("gz", gzip.compress(data)),
        ("bz2", bz2.compress(data)),
    ):
        file = tmp_path / f"vmlinux.{name}"
        file.write_bytes(packed[: len(packed) // 2])
        said = refused(lambda file=file: Vmlinux.load(file))  # type: ignore[misc]
        assert f"{file} cannot be unpacked" in said.message
        assert said.hint
    (tmp_path / "vmlinuz").write_bytes(bz_image(gzip.compress(data))[:-1000])
    assert "is cut off" in refused(lambda: Vmlinux.load(tmp_path / "vmlinuz")).message


def test_a_program_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "vmlinux.zst").write_bytes(b"\x28\xb5\x2f\xfd and more")
    said = refused(lambda: Vmlinux.load(tmp_path / "vmlinux.zst"))
    assert "zstd is not installed" in said.message
    assert "apt install zstd" in said.hint


def test_a_guest_that_runs_no_kernel_of_ours(little_memory: Callable[..., Any]) -> None:
    memory = little_memory((0x100000, 24 << 20))
    assert "no Linux kernel is recognised" in refused(lambda: find_kernel(memory)).message
    firmware = Registers(0, 0xFD09A, 0x11, 0, 0, 0, idt=0)
    assert (
        "no CPU has turned paging on" in refused(lambda: find_kernel(memory, None, None, [firmware])).message
    )
    wide = Registers(0, 0xC100_0000, 0x8005_0033, 0, 0, 0x500)
    assert "64-bit kernel" in refused(lambda: find_kernel(memory, None, None, [wide])).message
