"""States of a healthy kernel in which a rule's truth does not hold yet, or was asked not to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from breaks.memmap import text_given_away
from breaks.pagetable import (
    data_made_executable,
    direct_map_torn,
    text_made_writable,
    vmalloc_made_executable,
)
from recorded_guest import RecordedGuest, exchanged

from kvmtools.compare.engine import check
from kvmtools.findings import Outcome, Status
from kvmtools.records import PAGE_SHIFT

SEALING = ("pagetable.permissions", "pagetable.write-xor-execute", "pagetable.presence")


def with_option(guest: RecordedGuest, option: str) -> None:
    """One more word on the guest's command line, in the place of others that matter to no rule."""
    pointer = guest.kernel.variable("saved_command_line")
    line = guest.kernel.string(pointer)
    words = [word for word in line.split() if not word.startswith(("console=", "panic="))]
    changed = " ".join([option, *words]).encode()
    assert len(changed) <= len(line)
    guest.snapshot.patch(guest.kernel.physical(pointer), changed.ljust(len(line)))


def judged(guest: RecordedGuest, rule: str) -> Outcome:
    (outcome,) = guest.check(only=(rule,)).outcomes
    return outcome


@pytest.mark.parametrize("rule", SEALING)
def test_a_kernel_that_boots_is_not_sealed_yet(recorded: RecordedGuest, rule: str) -> None:
    """mark_readonly() comes after the init memory is freed and before SYSTEM_RUNNING."""
    text_made_writable(recorded)
    states = recorded.vmlinux.enumerators("system_states")
    recorded.write(recorded.healthy.address("system_state"), states["SYSTEM_FREEING_INITMEM"])
    outcome = judged(recorded, rule)
    assert outcome.status is Status.SKIPPED
    assert rule == "pagetable.write-xor-execute" or "SYSTEM_FREEING_INITMEM" in outcome.reason
    recorded.write(recorded.healthy.address("system_state"), states["SYSTEM_RUNNING"])
    assert judged(recorded, "pagetable.permissions").status is Status.DISCREPANCY


@pytest.mark.parametrize(
    "rule", ["memmap.image-reserved", "pcp.lists-sound", "buddy.nr-free", "zones.present"]
)
def test_a_kernel_that_boots_has_no_final_pages_yet(recorded: RecordedGuest, rule: str) -> None:
    """mm_init() hands memory to the page allocator while the state is still SYSTEM_BOOTING."""
    text_given_away(recorded)
    states = recorded.vmlinux.enumerators("system_states")
    recorded.write(recorded.healthy.address("system_state"), states["SYSTEM_BOOTING"])
    outcome = judged(recorded, rule)
    assert (outcome.status, "SYSTEM_BOOTING" in outcome.reason) == (Status.SKIPPED, True)
    recorded.write(recorded.healthy.address("system_state"), states["SYSTEM_SCHEDULING"])
    assert judged(recorded, "memmap.image-reserved").status is Status.DISCREPANCY


@pytest.mark.parametrize("recorded", ["pae"], indirect=True)
def test_rodata_off_leaves_code_writable(recorded: RecordedGuest) -> None:
    vmalloc_made_executable(recorded)
    assert judged(recorded, "pagetable.write-xor-execute").status is Status.DISCREPANCY
    with_option(recorded, "rodata=off")
    outcome = judged(recorded, "pagetable.write-xor-execute")
    assert (outcome.status, "rodata=off" in outcome.reason) == (Status.SKIPPED, True)


def test_debug_pagealloc_unmaps_free_pages(recorded: RecordedGuest) -> None:
    direct_map_torn(recorded)
    assert judged(recorded, "pagetable.direct-map").status is Status.DISCREPANCY
    observed = recorded.observe()
    debugging = exchanged(observed, configuration=replace(observed.configuration, debug_pagealloc=True))
    assert check(debugging, only=("pagetable.direct-map",)).exit_code == 0


@pytest.mark.parametrize("recorded", ["pae"], indirect=True)
def test_the_control_page_of_a_kexec_image_is_executable(recorded: RecordedGuest) -> None:
    """machine_kexec_prepare() makes it so in the direct map, and nobody minds."""
    address = int(data_made_executable(recorded).split()[1], 16)
    page = recorded.healthy.memmap.pfn_to_page((address - recorded.healthy.page_offset) >> PAGE_SHIFT)
    rules = ("pagetable.permissions", "pagetable.write-xor-execute")
    observed = recorded.observe()
    assert check(observed, only=rules).exit_code == 1
    assert check(exchanged(observed, control_pages=(page,)), only=rules).exit_code == 0
    assert check(exchanged(observed, control_pages=(page + 32, 0xDEAD)), only=rules).exit_code == 1
