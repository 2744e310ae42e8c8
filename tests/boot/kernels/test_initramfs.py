"""The archive is what the kernel's unpacker expects, and the init in it stands on its own feet."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.boot.kernels.initramfs import Member, compile_init, directory, guest_members, pack, regular_file
from kvmtools.errors import BuildError
from kvmtools.paths import data_dir


def unpack(archive: bytes) -> Iterator[tuple[Member, tuple[int, ...]]]:
    """A reader of our own, after init/initramfs.c: names end in a zero, everything is padded to 4 bytes."""
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = tuple(int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13))
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        at += 110 + name_size
        at += -at % 4
        data = archive[at : at + size]
        at += size
        at += -at % 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return
        yield Member(name[:-1].decode(), fields[1], data), fields


names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=40
)


@given(st.lists(st.tuples(names, st.binary(max_size=50), st.booleans()), max_size=8))
def test_every_member_comes_back(files: list[tuple[str, bytes, bool]]) -> None:
    members = [regular_file(name, data, executable=executable) for name, data, executable in files]
    assert [member for member, _ in unpack(pack(members))] == members


def test_the_same_members_give_the_same_bytes_and_other_ones_do_not() -> None:
    members = guest_members(b"init", b"driver")
    assert pack(members) == pack(guest_members(b"init", b"driver"))
    assert pack(members) != pack(guest_members(b"init", b"another"))


def test_owner_and_time_are_zero_and_inodes_differ() -> None:
    fields = [fields for _, fields in unpack(pack(guest_members(b"init", b"driver")))]
    assert {(uid, gid, time) for _, _, uid, gid, _, time, *_ in fields} == {(0, 0, 0)}
    assert len({inode for inode, *_ in fields}) == len(fields)


def test_the_guest_finds_mount_points_before_init() -> None:
    members = [member for member, _ in unpack(pack(guest_members(b"code", b"module")))]
    assert [m.name for m in members if S_ISDIR(m.mode)] == ["dev", "proc", "sys", "tmp"]
    init = next(m for m in members if m.name == "init")
    assert S_ISREG(init.mode)
    assert init.mode & 0o111
    assert init.data == b"code"
    assert directory("dev") == members[0]


def test_init_needs_no_library_no_loader_and_no_relocation(tmp_path: Path) -> None:
    compile_init(data_dir() / "init", tmp_path / "init")
    with open(tmp_path / "init", "rb") as file:
        elf = ELFFile(file)
        assert (elf.get_machine_arch(), elf.header.e_type) == ("x86", "ET_EXEC")
        kinds = {segment.header.p_type for segment in elf.iter_segments()}
        assert "PT_INTERP" not in kinds
        assert "PT_DYNAMIC" not in kinds
        stack = next(s for s in elf.iter_segments() if s.header.p_type == "PT_GNU_STACK")
        assert not stack.header.p_flags & 1


LATER_THAN_A_486 = re.compile(r"\t(f?cmov\w+|nop[lw]|cmpxchg8b|rdtsc|cpuid|sysenter|\w*xmm\w*|endbr32)\b")


def test_init_runs_on_the_first_processor_that_the_kernel_runs_on(tmp_path: Path) -> None:
    compile_init(data_dir() / "init", tmp_path / "init")
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(tmp_path / "init")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert listing.count("\tmov") > 100
    assert LATER_THAN_A_486.findall(listing) == []


@pytest.mark.parametrize("instruction", ["cmove %eax, %ecx", "rdtsc", "nopl (%eax)"])
def test_an_instruction_that_a_486_lacks_does_not_get_into_init(tmp_path: Path, instruction: str) -> None:
    (tmp_path / "init.c").write_text(f'void _start(void) {{ __asm__ volatile("{instruction}"); }}')
    with pytest.raises(BuildError, match="does not compile"):
        compile_init(tmp_path, tmp_path / "init")


def test_init_compiles_to_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        compile_init(data_dir() / "init", tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_mistake_in_init_is_named(tmp_path: Path) -> None:
    (tmp_path / "init.c").write_text("void _start(void) { undeclared(); }\n")
    with pytest.raises(BuildError, match=r"init\.c:1.*undeclared"):
        compile_init(tmp_path, tmp_path / "init")
