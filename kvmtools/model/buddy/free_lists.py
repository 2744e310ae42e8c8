"""``struct list_head``: circular lists of free blocks, whose links lie in the blocks' own ``struct page``.

Source: include/linux/list.h (list_add, list_add_tail, list_del), include/linux/poison.h, 6.1.  A list's head is in
``struct zone``, which is no part of ``mem_map``; all other links are read and written through the mem_map, so that
following a list shows which struct pages the kernel touches.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmtools.model.bugs import KernelBug
from kvmtools.model.pages.struct_page import Members, Words

NEXT, PREV = 0, 4
"""Byte offsets in a ``struct list_head``."""


class FreeLists:
    """Any number of lists over one mem_map.

    :param members: offsets of the links in ``struct page``
    :param poison: what ``list_del`` leaves in ``next`` and ``prev``; ``None`` if it leaves them alone (2.4)
    """

    def __init__(self, mem_map: Words, members: Members, poison: tuple[int, int] | None) -> None:
        self._mem_map = mem_map
        self._offset = members.next
        self._poison = poison
        self._heads: dict[int, int] = {}
        """The words of the heads, at addresses no struct page can have."""

    def new(self) -> int:
        """``INIT_LIST_HEAD``: the head of a new, empty list."""
        head = 4 * len(self._heads)
        self._heads[head] = self._heads[head + PREV] = head
        return head

    def initialise(self, page: int) -> None:
        """``INIT_LIST_HEAD(&page->lru)``."""
        node = page + self._offset
        self._write(node, NEXT, node)
        self._write(node, PREV, node)

    def add(self, page: int, head: int) -> None:
        """``list_add``: the page becomes the first."""
        self._insert(page + self._offset, head, self._read(head, NEXT))

    def add_tail(self, page: int, head: int) -> None:
        """``list_add_tail``: the page becomes the last."""
        self._insert(page + self._offset, self._read(head, PREV), head)

    def delete(self, page: int) -> None:
        """``list_del``, from whatever list the page is in."""
        node = page + self._offset
        before, after = self._read(node, PREV), self._read(node, NEXT)
        self._write(after, PREV, before)
        self._write(before, NEXT, after)
        if self._poison is not None:
            self._write(node, NEXT, self._poison[0])
            self._write(node, PREV, self._poison[1])

    def first(self, head: int) -> int | None:
        """The struct page at the front; ``None`` if the list is empty."""
        node = self._read(head, NEXT)
        return None if node == head else node - self._offset

    def pages(self, head: int) -> Iterator[int]:
        """All struct pages, from the front.

        :raises KernelBug: if a node's ``prev`` is not what came before it (CONFIG_DEBUG_LIST would notice)
        """
        before, node = head, self._read(head, NEXT)
        while self._read(node, PREV) == before:
            if node == head:
                return
            yield node - self._offset
            before, node = node, self._read(node, NEXT)
        raise KernelBug(
            "next->prev != prev", f"a free list is corrupt: {node:#x} does not lead back to {before:#x}"
        )

    def _insert(self, node: int, before: int, after: int) -> None:
        self._write(after, PREV, node)
        self._write(node, NEXT, after)
        self._write(node, PREV, before)
        self._write(before, NEXT, node)

    def _read(self, node: int, link: int) -> int:
        if node in self._heads:
            return self._heads[node + link]
        return self._mem_map.read(node - self._offset, self._offset + link)

    def _write(self, node: int, link: int, value: int) -> None:
        if node in self._heads:
            self._heads[node + link] = value
        else:
            self._mem_map.write(node - self._offset, self._offset + link, value)
