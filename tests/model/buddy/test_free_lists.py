"""Intrusive lists: what ends up in which word, beside a plain Python list."""

from __future__ import annotations

from typing import Any

import pytest
from buddies import TinyMap
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.model import eras
from kvmtools.model.buddy.free_lists import FreeLists
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pages.struct_page import members

NEXT = 4
"""Offset of ``buddy_list`` in 6.1."""


def lists(present: int = 8, poison: tuple[int, int] | None = (0x100, 0x122)) -> tuple[FreeLists, TinyMap]:
    words = TinyMap(range(present))
    return FreeLists(words, members(eras.named("6.1")), poison), words


def pfns(of: FreeLists, words: TinyMap, head: int) -> list[int]:
    return [words.page_to_pfn(page) for page in of.pages(head)]


def test_empty() -> None:
    found, words = lists()
    head = found.new()
    assert found.first(head) is None
    assert list(found.pages(head)) == []
    assert words.words == {}


def test_heads_are_apart() -> None:
    found, words = lists()
    heads = [found.new() for _ in range(3)]
    assert heads == [0, 8, 16]  # two words each
    for pfn, head in enumerate(heads):
        found.add(words.pfn_to_page(pfn), head)
    assert [pfns(found, words, head) for head in heads] == [[0], [1], [2]]


def test_links() -> None:
    """A head and two pages: every link, as list.h would write it."""
    found, words = lists()
    head = found.new()
    first, second = words.pfn_to_page(1), words.pfn_to_page(2)
    found.add(second, head)
    found.add(first, head)
    assert found.first(head) == first
    assert words.words == {
        first + NEXT: second + NEXT,
        first + NEXT + 4: head,
        second + NEXT: head,
        second + NEXT + 4: first + NEXT,
    }


def test_initialise_points_to_itself() -> None:
    found, words = lists()
    page = words.pfn_to_page(3)
    found.initialise(page)
    assert words.words == {page + NEXT: page + NEXT, page + NEXT + 4: page + NEXT}


@pytest.mark.parametrize("poison", [(0x100, 0x122), None])
def test_delete(poison: tuple[int, int] | None) -> None:
    found, words = lists(poison=poison)
    head = found.new()
    page = words.pfn_to_page(1)
    found.add(page, head)
    found.delete(page)
    assert found.first(head) is None
    assert (words.read(page, NEXT), words.read(page, NEXT + 4)) == (poison or (head, head))


@given(
    st.lists(
        st.tuples(st.sampled_from(("add", "add_tail", "delete")), st.integers(0, 7), st.integers(0, 1)),
        max_size=40,
    )
)
def test_like_python_lists(steps: list[tuple[str, int, int]]) -> None:
    found, words = lists()
    heads = [found.new(), found.new()]
    expected: list[list[int]] = [[], []]
    for step, pfn, which in steps:
        page = words.pfn_to_page(pfn)
        holder = next((one for one in expected if pfn in one), None)
        if step == "delete" and holder is not None:
            found.delete(page)
            holder.remove(pfn)
        elif step == "add" and holder is None:
            found.add(page, heads[which])
            expected[which].insert(0, pfn)
        elif step == "add_tail" and holder is None:
            found.add_tail(page, heads[which])
            expected[which].append(pfn)
        assert [pfns(found, words, head) for head in heads] == expected


@pytest.mark.parametrize("link", ["next", "prev"])
def test_corruption_is_noticed(link: str) -> None:
    """Of three pages the middle one's link is bent to itself: a walk that believed ``next`` would not end."""
    found, words = lists()
    head = found.new()
    for pfn in (1, 2, 3):
        found.add_tail(words.pfn_to_page(pfn), head)
    first, middle = (words.pfn_to_page(pfn) + NEXT for pfn in (1, 2))
    words.write(words.pfn_to_page(2), NEXT + {"next": 0, "prev": 4}[link], middle)
    before = {"next": middle, "prev": first}[link]
    with pytest.raises(
        KernelBug, match=rf"next->prev != prev.*corrupt: {middle:#x} does not lead back to {before:#x}"
    ):
        list(found.pages(head))


def test_corruption_behind_the_last() -> None:
    """The head's ``prev`` is looked at, too."""
    found, words = lists()
    head = found.new()
    for pfn in (1, 2):
        found.add_tail(words.pfn_to_page(pfn), head)
    found.add_tail(words.pfn_to_page(3), found.new())
    words.write(words.pfn_to_page(1), NEXT, head)
    walk = found.pages(head)
    assert next(walk) == words.pfn_to_page(1)
    with pytest.raises(
        KernelBug, match=f"corrupt: {head:#x} does not lead back to {words.pfn_to_page(1) + NEXT:#x}"
    ):
        next(walk)


def test_every_word_goes_through_the_map(monkeypatch: Any) -> None:
    """Pages are named by the start of their struct page, and links by offsets within it."""
    found, words = lists()
    asked = []
    monkeypatch.setattr(words, "write", lambda page, offset, value: asked.append((page, offset)))
    found.add(words.pfn_to_page(5), found.new())
    assert asked == [(words.pfn_to_page(5), NEXT), (words.pfn_to_page(5), NEXT + 4)]
