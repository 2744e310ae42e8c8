"""Rules about the guest as a whole: that it can be read, and that a kernel can be like this at all."""

from __future__ import annotations

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.errors import UsageError
from kvmtools.findings import Finding
from kvmtools.observe.broken import Broken
from kvmtools.observe.observed import PARTS


def readable(case: Case) -> Examination:
    """Whatever an observer had to leave out is a discrepancy of its own."""

    def spell(broken: Broken) -> Finding:
        return Finding(
            broken.structure,
            "pointers that lead to memory, and lists that end",
            broken.reason,
            symbol=broken.member,
            virtual=broken.address if broken.space == "virtual" else None,
            physical=broken.address if broken.space == "physical" else None,
        )

    return violations(len(PARTS), case.observed.broken, spell)


def possible(case: Case) -> Examination:
    """The model has an answer for what the guest says that it is."""
    prediction = case.prediction
    parts = ("form", "layout", "memmap", "expectations", "pkmap")
    try:
        for part in parts:
            getattr(prediction, part)
    except UsageError as refusal:
        finding = Finding(
            subjects.CONFIGURATION, "a RAM map and parameters that a kernel boots with", str(refusal)
        )
        return violations(len(parts), [finding], lambda found: found)
    return Examination(len(parts))


RULES = (
    Rule(
        "guest.readable",
        "every pointer that leads to the structures of the kernel's memory management leads to memory, and every list "
        "of them ends",
        "include/linux/list.h, mm_types.h, mmzone.h, ioport.h, 6.1",
        "structures",
        "kvmtools vtop {virtual}; the pointer that leads there was overwritten, or its owner was freed",
        check=readable,
        about="mem_map",
        exceptions="a guest that runs while it is read (--no-pause)",
        needs=("scheduling",),
    ),
    Rule(
        "guest.possible",
        "the guest's RAM map, command line and CPU features are ones with which an i386 kernel boots",
        "arch/x86/kernel/e820.c, setup.c, arch/x86/mm/init_32.c, 6.1",
        "predictions",
        "kvmtools layout; the e820 map and the command line in the guest's boot log",
        check=possible,
        about="e820_table",
        exceptions="a kernel of a configuration that the model does not know",
    ),
)
