"""Reading the files of page tables: every line means one thing, and what means nothing is refused."""

from __future__ import annotations

import pytest

from kvmtools.errors import UsageError
from kvmtools.model.paging.access import Control
from kvmtools.model.paging.vectors import (
    ExpectedAccess,
    ExpectedLeaf,
    Meets,
    Raises,
    Stop,
    Then,
    Vector,
    parse,
)
from kvmtools.model.paging.walk import long_mode, non_pae, pae
from kvmtools.records import Range

HEAD = "form pae\ncr3 0x1000\n"


def test_every_kind_of_line() -> None:
    vector = parse(
        "all",
        """# what it shows

        form pae nx=off maxphyaddr=36
        cr3 0x1fF8
        0x2000[3] = 0x7063
        0x5000[510..511] = 0x8000000000000001
        0xc0003000 -> 0x7000 4K w-x
        0xc0200000 -> 0x400000 2M -u-
        0xc0400000 -> 0x40000000 1G wux
        0xc0002000 stops at pte[2]: not present
        leaves 12
        user write 0xc0003001 raises #PF 0x7 at pte[3]
        control smap=on pat=0x10 wp=off
        supervisor fetch 0xc0003001 meets 0x7001 UC- global
        supervisor read 0xc0003001 meets 0x7001 WB
        then 0x2000[3] = 0x7063
        """,
    )
    assert (vector.name, vector.form_name, vector.cr3, vector.leaf_count) == ("all", "pae", 0x1FF8, 12)
    assert vector.form == pae(nx=False, physical_bits=36)
    assert vector.options == {"nx": False, "physical_bits": 36}
    assert vector.memory.ranges == (Range(0x2000, 0x3000), Range(0x5000, 0x6000))
    assert vector.memory.read(0x2010, 16) == bytes(8) + (0x7063).to_bytes(8, "little")
    assert vector.memory.read(0x5FE8, 24) == bytes(8) + 2 * (1 << 63 | 1).to_bytes(8, "little")
    assert vector.leaves == (
        ExpectedLeaf(0xC0003000, 0x7000, 4096, True, False, True),
        ExpectedLeaf(0xC0200000, 0x400000, 2 << 20, False, True, False),
        ExpectedLeaf(0xC0400000, 0x40000000, 1 << 30, True, True, True),
    )
    assert vector.stops == (Stop(0xC0002000, "pte", 2, "not present"),)
    control = Control(wp=False, smap=True, pat=0x10)
    assert vector.script == (
        ExpectedAccess(True, "write", 0xC0003001, Control(), Raises("#PF", 7, "pte", 3)),
        ExpectedAccess(False, "fetch", 0xC0003001, control, Meets(0x7001, "UC-", True)),
        ExpectedAccess(False, "read", 0xC0003001, control, Meets(0x7001, "WB", False)),
        Then(0x2000, 3, 0x7063),
    )


def form_of(line: str) -> Vector:
    return parse("form", f"{line}\ncr3 0x1000")


def test_forms_and_what_they_take_for_granted() -> None:
    assert form_of("form non-pae").form == non_pae()
    assert form_of("form non-pae").options == {"pse": True, "physical_bits": 32}
    assert form_of("form non-pae pse=off maxphyaddr=40").form == non_pae(pse=False, physical_bits=40)
    assert form_of("form pae").form == pae()
    assert form_of("form pae nx=on maxphyaddr=32").form == pae(physical_bits=32)
    assert form_of("form 4-level").form == long_mode()
    assert form_of("form 4-level gib=off nx=off").form == long_mode(gib_pages=False, nx=False)
    assert form_of("form 4-level maxphyaddr=52").leaf_count is None


def test_entries_are_as_wide_as_the_form_says() -> None:
    small = parse("small", "form non-pae\ncr3 0x1000\n0x1000[1] = 0xffffffff\n0x1ffc[0] = 0x7\n")
    assert small.memory.read(0x1000, 12) == bytes(4) + b"\xff" * 4 + bytes(4)
    assert small.memory.read(0x1FFC, 4) == b"\x07\0\0\0"
    last = parse("last", "form non-pae\ncr3 0x1000\n0x1000[1023] = 0x7\n")
    assert last.memory.read(0x1FFC, 4) == b"\x07\0\0\0"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("form pae", "there is a form line already: 'form pae'"),
        ("cr3 0x1000", "there is a cr3 line already: 'cr3 0x1000'"),
        ("0x1000[1..2]=0x1", "there is a line for entry 1 already: '0x1000[1..2]=0x1'"),
        ("0x1008[0] = 0x1", "there is a line for entry 0 already: '0x1008[0] = 0x1'"),
    ],
)
def test_nothing_is_said_twice(lines: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse("twice", f"{HEAD}0x1000[1] = 0x0\n{lines}\n")
    assert raised.value.message == f"twice:4: {said}"


@pytest.mark.parametrize("cr3", ["0x1000", "0x101f"])
def test_a_pdpt_has_four_entries(cr3: str) -> None:
    for lines, number in (
        (f"form pae\ncr3 {cr3}\n0x1000[3] = 0x1\n0x1000[4] = 0x2001", 4),
        (f"form pae\n0x1000[4] = 0x2001\n0x1000[0] = 0x1\ncr3 {cr3}", 4),
        (f"cr3 {cr3}\nform pae\n0x1000[0..4] = 0x2001", 3),
    ):
        with pytest.raises(UsageError, match=rf"^pdpt:{number}: the table of cr3 has 4 entries: "):
            parse("pdpt", lines)
    assert parse("pdpt", f"form pae\ncr3 {cr3}\n0x1000[0..3] = 0x1\n0x1020[0] = 0x7").cr3 == int(cr3, 16)
    assert parse("other", f"form pae\ncr3 {cr3}\n0x2000[511] = 0x1").memory.ranges == (Range(0x2000, 0x3000),)


def test_blanks_and_comments_are_free() -> None:
    vector = parse(
        "free",
        """form pae # the form
        cr3 0x1000	# not = 0x2000
        0x1000[0]=0x2001   #the table below
        0x2000[0] =0x3063 # #PF
        # user read 0x0 raises #PF 0x5 at pte[0]
        user write 0x0 raises #PF 0x5 at pte[0]  # raises #PF 0x7
        then 0x2000[0]=0x3063
        """,
    )
    assert vector.memory.read(0x1000, 8) == (0x2001).to_bytes(8, "little")
    assert vector.memory.read(0x2000, 8) == (0x3063).to_bytes(8, "little")
    assert vector.script == (
        ExpectedAccess(True, "write", 0, Control(), Raises("#PF", 5, "pte", 0)),
        Then(0x2000, 0, 0x3063),
    )


def test_the_last_control_line_is_what_remains() -> None:
    assert parse("none", HEAD).control == Control()
    assert parse("two", HEAD + "control smap=on\ncontrol wp=off").control == Control(wp=False)


@pytest.mark.parametrize("text", ["", "# nothing", "form pae", "cr3 0x1000"])
def test_a_file_needs_a_form_and_a_root(text: str) -> None:
    with pytest.raises(UsageError, match=r"^bare: there must be a form and a cr3 line .*model walk --help"):
        parse("bare", text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "no such line: 'nonsense'"),
        ("cr3 4096", "no such line"),
        ("leaves many", "no such line"),
        ("0x1000[0] = 7", "no such line"),
        ("0xg000[0] = 0x7", "no such line"),
        ("0x0 -> 0x0 4T wux", "no such line"),
        ("0x0 stops at pte[0]: bored", "no such line"),
        ("user jump 0x0 meets 0x0 WB", "no such line"),
        ("user read 0x0 raises #UD 0x0 at pte[0]", "no such line"),
        ("form 5-level", "no such line"),
        ("form pae nx=maybe", "no such line"),
        ("form pae pse=off", "this form has no such option"),
        ("form pae pcid=on", "pcid is not one of nx, pse, maxphyaddr, gib"),
        ("form pae maxphyaddr=53", "no processor has so many address bits"),
        ("form non-pae maxphyaddr=31", "no processor has so many address bits"),
        ("control cet=on", "cet is not one of wp, smep, smap, ac, pge, pat"),
        ("0x1000[512] = 0x0", "no table has such entries"),
        ("0x1000[510..512] = 0x0", "no table has such entries"),
        ("0x1000[3..2] = 0x0", "no table has such entries"),
        ("0x1004[0] = 0x0", "no table has such entries"),
        ("0x1000[0] = 0x10000000000000000", "an entry has 8 bytes"),
    ],
)
def test_a_line_that_means_nothing_is_named(line: str, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse("broken", HEAD + line)
    assert raised.value.message.startswith(f"broken:3: {reason}")
    assert raised.value.message.endswith(f": {line!r}")
    assert raised.value.hint == "kvmtools model walk --help describes the lines"


def test_an_entry_before_its_form() -> None:
    with pytest.raises(UsageError, match="early:1: the form comes before the first entry"):
        parse("early", "0x1000[0] = 0x7\nform pae\n")


def test_non_pae_entries_have_four_bytes() -> None:
    for line, reason in (
        ("0x1000[0] = 0x100000000", "4 bytes"),
        ("0x1000[1024] = 0x0", "no table"),
        ("0x1002[0] = 0x0", "no table"),
    ):
        with pytest.raises(UsageError, match=reason):
            parse("narrow", f"form non-pae\n{line}\n")
