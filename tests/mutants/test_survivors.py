"""The list of those that no test can kill, and when it and the trial do not agree."""

from __future__ import annotations

import pytest

from mutants.operators import mutants_of
from mutants.survivors import LIST, BadList, complaints, read, written

MUTANTS = mutants_of("x.py", b"def f(a):\n    return a < 1\n")
REASON = "\n    because: a is never 1,\n    says the SDM\n"


def test_what_is_written_is_read() -> None:
    text = "# a comment\n\n" + "\n".join(written(mutant) + REASON for mutant in MUTANTS)
    listed = read(text)
    assert [survivor.name for survivor in listed] == [mutant.name for mutant in MUTANTS]
    assert {survivor.because for survivor in listed} == {"a is never 1, says the SDM"}


@pytest.mark.parametrize("gone", range(4))
def test_an_entry_without_one_of_its_parts_is_refused(gone: int) -> None:
    lines = (written(MUTANTS[0]) + "\n    because: reason").splitlines()
    with pytest.raises(BadList):
        read("\n".join(lines[:gone] + lines[gone + 1 :]))


def test_the_list_and_the_trial_agree() -> None:
    first, *others = MUTANTS
    listed = read(written(first) + REASON)
    assert complaints(listed, [first], others, ["x.py"]) == ([], [])
    assert complaints(listed, MUTANTS, [], ["x.py"]) == (others, [])
    (unlisted, (wrong,)) = complaints(listed, [], MUTANTS, ["x.py"])
    assert unlisted == []
    assert "is killed now" in wrong
    (_, (wrong,)) = complaints(listed, [], others, ["x.py"])
    assert "is no mutant any more" in wrong
    assert complaints(listed, [], [], ["another.py"]) == ([], [])


def test_our_own_list_can_be_read() -> None:
    assert all(survivor.because for survivor in read(LIST.read_text()))
