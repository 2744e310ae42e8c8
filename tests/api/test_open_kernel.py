"""What a script is told of a kernel: the guest's own words, records that print as the commands do."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from click.testing import CliRunner

import kvmtools
from kvmtools.api.pages import flags_of
from kvmtools.cli.group import cli
from kvmtools.observe.pages.memmap import page_at

PFN = 512
ENTRY_SIZE = {True: 8, False: 4}


def printed(*words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize("question", ["zones", "pkmap", "layout", "regs", "memmap", "walk"])
def test_an_answer_prints_as_the_command_does(kernel: kvmtools.OpenKernel, question: str) -> None:
    assert repr(getattr(kernel, question)()) == printed(question)


def test_a_translation_and_a_page_print_as_the_commands_do(kernel: kvmtools.OpenKernel) -> None:
    for address in ("swapper_pg_dir", "linux_banner+0x10", "c0000000", "0x1000"):
        said = CliRunner().invoke(cli, ["vtop", address], standalone_mode=False).stdout
        assert repr(kernel.vtop(address)) == said.rstrip("\n")
    assert repr(kernel.page(PFN)) == printed("memmap", str(PFN))


def test_no_answer_has_colour(kernel: kvmtools.OpenKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    answers = (
        kernel.vtop("swapper_pg_dir"),
        kernel.walk(),
        kernel.pkmap(),
        kernel.zones(),
        kernel.layout(),
        kernel.regs(),
    )
    assert not any("\x1b" in repr(answer) for answer in answers)
    assert "\x1b" in printed("vtop", "swapper_pg_dir")


def test_a_number_is_as_good_as_a_text(kernel: kvmtools.OpenKernel) -> None:
    by_name = kernel.vtop("swapper_pg_dir")
    by_number = kernel.vtop(by_name.virtual)
    assert (by_name.symbol, by_number.symbol) == ("swapper_pg_dir", "")
    assert by_name.steps == by_number.steps
    assert by_name.physical == by_number.physical == by_name.page_table.cr3
    assert kernel.address(by_name.virtual) == kernel.address(f"{by_name.virtual:08x}") == by_name.virtual
    assert by_name.page == kernel.page(by_name.page.pfn) == kernel.page(by_name.page.page)
    assert kernel.page(f"phys:{by_name.physical:#x}") == by_name.page
    assert (
        kernel.walk("swapper_pg_dir", by_name.virtual + 1).walk.rows(np.array([by_name.virtual], np.uint64))
        == 0
    )


def test_numbers_of_numpy_are_numbers(kernel: kvmtools.OpenKernel) -> None:
    first = kernel.walk().walk.virtual[0]
    assert kernel.vtop(first) == kernel.vtop(int(first))
    assert kernel.page(np.int64(PFN)) == kernel.page(PFN)
    for nonsense in (-1, 1 << 32, "narnia"):
        with pytest.raises(kvmtools.UsageError):
            kernel.vtop(nonsense)


def test_a_walk_may_end_where_the_address_space_does(kernel: kvmtools.OpenKernel) -> None:
    whole = kernel.walk()
    for end in (1 << 32, "0x100000000", np.uint64(1 << 32)):
        assert repr(kernel.walk(0, end)) == repr(whole)
    for start, end in ((1 << 32, 1 << 32), (0, (1 << 32) + 1)):
        with pytest.raises(kvmtools.UsageError, match="32 bits"):
            kernel.walk(start, end)


def test_many_are_asked_at_one_moment(kernel: kvmtools.OpenKernel) -> None:
    before = len(kernel.pauses)
    ways = kernel.vtop_each(["linux_banner", 0xC000_0000])
    assert [way.argument for way in ways] == ["linux_banner", 0xC000_0000]
    assert len(kernel.pauses) == before + 1
    assert [page.pfn for page in kernel.pages([1, 2, 3])] == [1, 2, 3]
    assert len(kernel.pauses) == before + 2


def test_a_page_has_every_field_that_the_observer_tells(kernel: kvmtools.OpenKernel) -> None:
    page = kernel.page(PFN)
    assert vars(page) == page_at(kernel.session.kernel, PFN, flags_of(kernel.session.kernel))
    assert page.physical == PFN << 12


def test_answers_do_not_change(kernel: kvmtools.OpenKernel) -> None:
    for answer, name in (
        (kernel.vtop("linux_banner"), "physical"),
        (kernel.page(1), "flags"),
        (kernel.walk(), "page_table"),
        (kernel.regs(), "source"),
        (kernel.layout(), "slide"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(answer, name, None)


def test_a_walk_in_runs_in_pages_and_in_columns(kernel: kvmtools.OpenKernel) -> None:
    found = kernel.walk()
    pages = list(found.pages())
    assert len(found) == len(pages) == len(found.walk.virtual)
    assert [page.entry for page in pages] == found.walk.entry.tolist()
    runs = list(found.runs())
    assert sum(run.pages for run in runs) == len(pages)
    assert sum(run.end - run.virtual for run in runs) == int(found.walk.size.sum())
    # A run's flags are its first page's, but for A and D, which the CPU sets as it goes.
    first = {page.virtual: page.flags.split() for page in pages}
    for run in runs:
        assert run.flags.split() == [flag for flag in first[run.virtual] if flag not in ("A", "D")]


def test_a_region_of_a_walk(kernel: kvmtools.OpenKernel) -> None:
    whole, part = kernel.walk(), kernel.walk(region="direct map")
    names = [whole.regions.find(int(virtual)).name for virtual in whole.walk.virtual]
    assert len(part) == names.count("direct map") > 0
    assert {run.region for run in part.runs()} == {"direct map"}
    assert len(kernel.walk(region="direct-map")) == len(part)
    with pytest.raises(kvmtools.UsageError, match="no region is called 'narnia'"):
        kernel.walk(region="narnia")
    with pytest.raises(kvmtools.UsageError, match="is empty"):
        kernel.walk(0xC000_0000, 0xC000_0000)


def test_whose_page_table(kernel: kvmtools.OpenKernel) -> None:
    (first, *_others) = kernel.processes()
    table = kernel.page_table(pid=first.pid)
    assert (table.cr3, table.name) == (first.pgd, f"pid {first.pid} ({first.comm})")
    assert kernel.page_table(cr3=first.pgd).cr3 == kernel.page_table(cr3=hex(first.pgd)).cr3 == first.pgd
    assert kernel.page_table(cpu=1).cr3 == kernel.regs()[1].cr3
    assert kernel.page_table().name == "swapper_pg_dir"
    user = kernel.walk(end=kernel.page_offset, pid=first.pid)
    assert len(user)
    assert kernel.vtop(int(user.walk.virtual[0]), pid=first.pid).physical == int(user.walk.physical[0])
    assert "--pid" in kernel.vtop(int(user.walk.virtual[0])).hint
    for wrong in ({"cpu": 9}, {"pid": 99_999}, {"cpu": 0, "pid": 1}, {"cr3": 1 << 40}):
        with pytest.raises(kvmtools.UsageError):
            kernel.page_table(**wrong)  # type: ignore[arg-type]


def test_memory_is_read_through_a_page_table_or_by_its_place(kernel: kvmtools.OpenKernel) -> None:
    top = kernel.vtop("swapper_pg_dir").steps[0]
    entry = kernel.read(f"swapper_pg_dir+{top.index * ENTRY_SIZE[kernel.pae]}", ENTRY_SIZE[kernel.pae])
    assert int.from_bytes(entry, "little") == top.entry != 0
    assert kernel.physical(top.table + top.index * len(entry), len(entry)) == entry
    with pytest.raises(kvmtools.MemoryFault):
        kernel.read(0, 1)


def test_many_addresses_are_translated_at_once(kernel: kvmtools.OpenKernel) -> None:
    asked = ["swapper_pg_dir", "init_task+8", 0, kernel.page_offset + 0x123456]
    found = kernel.translate(asked)
    ways = [kernel.vtop(address).physical for address in asked]
    assert found.tolist() == [kvmtools.NOT_MAPPED if way is None else way for way in ways]
    assert ways.count(None) == 1
    numbers = kernel.walk().walk.virtual[:100]
    assert kernel.translate(numbers).tolist() == [kernel.vtop(int(number)).physical for number in numbers]
    assert kernel.translate([0x1000], pid=1).tolist() == [kvmtools.NOT_MAPPED]
    assert kernel.translate([]).shape == (0,)
    for wrong in (
        ["no_such_symbol"],
        numbers.reshape(1, -1),
        numbers.astype(float),
        numbers + np.uint64(1 << 32),
        numbers[:1].astype(np.int64) - (1 << 32),
    ):
        with pytest.raises(kvmtools.UsageError):
            kernel.translate(wrong)


def test_what_pages_do_is_counted(kernel: kvmtools.OpenKernel) -> None:
    use = kernel.memmap()
    free = {zone.name: zone.buddy_pages for zone in kernel.zones()}
    assert {name: states["free"] for name, states in use.zones.items()} == free
    assert use.page_count == int(use.counts.sum())
    assert np.count_nonzero(use.states == use.names.index("free")) == sum(free.values())


def test_pkmap(kernel: kvmtools.OpenKernel) -> None:
    slots = kernel.pkmap()
    assert slots is not None
    assert len(slots) == (512 if kernel.pae else 1024)
    not_empty = (slots.area.counts != 0) | (slots.area.ptes != 0)
    assert [slot.slot for slot in slots.used] == np.flatnonzero(not_empty).tolist()
    assert all(slot.users == max(0, slot.count - 1) for slot in slots.used)
    way = kernel.vtop(slots.used[0].virtual or 0)
    assert (way.region, way.page.pfn if way.page else None) == (
        f"pkmap slot {slots.used[0].slot}",
        slots.used[0].pfn,
    )


def test_the_model_agrees_about_the_layout(kernel: kvmtools.OpenKernel) -> None:
    layout = kernel.layout()
    ought = kvmtools.model.predict(kernel.configuration())
    assert layout["vmalloc_start"].live == layout["vmalloc_start"].model == ought.layout.vmalloc_start
    assert layout.era == ought.era.name
    assert layout.refusal == ""
    with pytest.raises(KeyError):
        layout["narnia"]


def test_the_verdict(kernel: kvmtools.OpenKernel) -> None:
    result = kernel.check(only=["pkmap", "zones"], skip=["pkmap.waiters"])
    assert result.summary.startswith("agrees with the model; ")
    chosen = kvmtools.rules(["pkmap", "zones"], ["pkmap.waiters"])
    assert [outcome.rule for outcome in result.outcomes] == [rule.id for rule in chosen]
    assert {rule.group for rule in chosen} == {"pkmap", "zones"}
    asked = len(kernel.pauses)
    with pytest.raises(kvmtools.UsageError, match="no rule is called 'narnia'"):
        kernel.check(only=["narnia"])
    assert len(kernel.pauses) == asked, "the guest was bothered for nothing"


def test_a_verdict_prints_as_its_summary_and_in_full(kernel: kvmtools.OpenKernel) -> None:
    result = kernel.check(only=["zones"])
    assert str(result) == result.summary
    assert kvmtools.render(result, verbose=True).endswith(f"✓ {result.summary}")
    assert kvmtools.render(result, "json").startswith("{")


def test_who_it_is(kernel: kvmtools.OpenKernel) -> None:
    assert repr(kernel).startswith("Linux version 6.1")
    assert kernel.release in repr(kernel)
    assert kernel.page_offset == 0xC000_0000
    assert kernel.slide == kernel.configuration().image.slide
    assert kernel.vmlinux is None
    assert not kernel.read_while_running
    assert len(kernel.observe(processes=False).zones) == len(kernel.zones())
