"""Page tables under any sequence of operations, beside a plain dict of what was mapped."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvmtools.errors import UsageError
from kvmtools.model.paging.access import Access, AccessFault, access
from kvmtools.model.paging.page_tables import PageTables
from kvmtools.model.paging.physical import Physical
from kvmtools.model.paging.walk import Fault, PagingForm, long_mode, non_pae, pae, translate, walk
from kvmtools.records import Leaf, Range

PAGE = 4096
RAM = 16 << 20
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, NX = 1, 2, 4, 0x20, 0x40, 1 << 63
RIGHTS = st.sampled_from([0, WRITABLE, USER, WRITABLE | USER])

# Places that crowd together in few tables, and the ends of the address spaces; in pages.
NEAR = [
    table << 18 | middle << 9 | page for table in (0, 3) for middle in (0, 1, 511) for page in (0, 1, 511)
]
FAR = [0xFFFFF, 0xC0000, 0x7FFFF]
UPPER = [page + ((1 << 52) - (1 << 35)) for page in (0, 1, 512, (1 << 35) - 1)] + [(1 << 35) - 1, 1 << 27]


@dataclass
class MappedLeaf:
    """What was asked for, and the marks that accesses have left."""

    size: int
    physical: int
    rights: int
    executable: bool
    marks: int = 0


class Machine(RuleBasedStateMachine):
    """The oracle knows no tables: a dict of leaves by their first address, searched from end to end.

    How many tables there are is counted from the prefixes of these addresses.
    """

    form: PagingForm
    nx: bool
    prefixes: tuple[int, ...]
    """Bytes behind one table of each level but the root."""
    sizes: tuple[int, ...]
    places: tuple[int, ...]

    def __init__(self) -> None:
        super().__init__()
        self.memory = Physical((Range(0, RAM),))
        self.free = list(range(0, RAM, PAGE))
        self.taken: set[int] = set()
        self.tables = PageTables(self.memory, self.form, self.allocate, release=self.release)
        self.leaves: dict[int, MappedLeaf] = {}

    def known(self, address: int) -> tuple[int, MappedLeaf] | None:
        """The leaf around an address, and how far into it that is."""
        for start, leaf in self.leaves.items():
            if start <= address < start + leaf.size:
                return address - start, leaf
        return None

    def allocate(self) -> int:
        frame = self.free.pop()
        self.taken.add(frame)
        return frame

    def release(self, frame: int) -> None:
        self.taken.remove(frame)
        self.free.append(frame)

    @initialize()
    def root_is_taken(self) -> None:
        assert self.taken == {self.tables.root}

    @rule(data=st.data(), rights=RIGHTS, executable=st.booleans())
    def map(self, data: st.DataObject, rights: int, executable: bool) -> None:
        size = data.draw(st.sampled_from(self.sizes))
        virtual = data.draw(st.sampled_from(self.places)) * PAGE // size * size
        physical = data.draw(st.integers(0, ((1 << 32) - 1) // size)) * size
        flags = PRESENT | rights | (NX if self.nx and not executable else 0)
        if any(start < virtual + size and virtual < start + leaf.size for start, leaf in self.leaves.items()):
            with pytest.raises(UsageError):
                self.tables.map(virtual, physical, size=size, flags=flags)
        else:
            self.tables.map(virtual, physical, size=size, flags=flags)
            self.leaves[virtual] = MappedLeaf(size, physical, rights, executable or not self.nx)

    @precondition(lambda self: self.leaves)
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        virtual = data.draw(st.sampled_from(sorted(self.leaves)))
        self._unmap(virtual)

    @precondition(lambda self: self.leaves)
    @rule(data=st.data())
    def unmap_by_another_size(self, data: st.DataObject) -> None:
        virtual = data.draw(st.sampled_from(sorted(self.leaves)))
        size = data.draw(st.sampled_from(self.sizes))
        if self.leaves[virtual].size != size:
            with pytest.raises(UsageError):
                self.tables.unmap(virtual // size * size, size)

    def _unmap(self, virtual: int) -> None:
        leaf = self.leaves.pop(virtual)
        gone = self.tables.unmap(virtual, leaf.size)
        assert (gone.virtual, gone.size, gone.physical) == (virtual, leaf.size, leaf.physical)
        assert gone.entry & (ACCESSED | DIRTY) == leaf.marks

    @rule(
        data=st.data(),
        write=st.booleans(),
        user=st.booleans(),
        fetch=st.booleans(),
        offset=st.integers(0, PAGE - 1),
    )
    def touch(self, data: st.DataObject, write: bool, user: bool, fetch: bool, offset: int) -> None:
        virtual = data.draw(st.sampled_from(self.places)) * PAGE + offset
        write = write and not fetch
        answer = access(
            self.memory, self.tables.root, virtual, self.form, write=write, user=user, fetch=fetch
        )
        known = self.known(virtual)
        code = 2 * write | 4 * user | 16 * (fetch and self.nx)
        if known is None:
            assert isinstance(answer, AccessFault)
            assert (answer.exception, answer.error_code) == ("#PF", code)
            return
        inside, leaf = known
        asked = USER * user | WRITABLE * write
        if leaf.rights & asked == asked and (leaf.executable or not fetch):
            assert isinstance(answer, Access)
            assert answer.physical == leaf.physical + inside
            leaf.marks |= ACCESSED | DIRTY * write
        else:
            assert isinstance(answer, AccessFault)
            assert (answer.exception, answer.error_code) == ("#PF", code | 1)

    @rule(data=st.data(), offset=st.integers(0, PAGE - 1))
    def look(self, data: st.DataObject, offset: int) -> None:
        virtual = data.draw(st.sampled_from(self.places)) * PAGE + offset
        answer = translate(self.memory.read, self.tables.root, virtual, self.form)
        known = self.known(virtual)
        if known is None:
            assert isinstance(answer, Fault)
            return
        assert isinstance(answer, Leaf)
        assert (virtual - answer.virtual, answer.physical) == (known[0], known[1].physical)

    @invariant()
    def the_walk_is_the_dict(self) -> None:
        walked = walk(self.memory.read, self.tables.root, self.form)
        seen = {
            leaf.virtual: MappedLeaf(
                leaf.size,
                leaf.physical,
                WRITABLE * leaf.writable | USER * leaf.user,
                leaf.executable,
                leaf.entry & (ACCESSED | DIRTY),
            )
            for leaf in walked
        }
        assert seen == self.leaves
        assert list(seen) == sorted(seen)

    @invariant()
    def a_table_for_every_prefix_and_no_more(self) -> None:
        tables = [table.address for table in self.tables.tables()]
        prefixes = {
            (span, start // span)
            for span in self.prefixes
            for start, leaf in self.leaves.items()
            if leaf.size < span
        }
        assert len(tables) == len(prefixes) + 1
        assert set(tables) == self.taken
        assert len(self.free) + len(self.taken) == RAM // PAGE

    def teardown(self) -> None:
        for virtual in list(self.leaves):
            self._unmap(virtual)
        assert self.taken == {self.tables.root}
        assert not any(self.memory.read(self.tables.root, PAGE))


class NonPae(Machine):
    form, nx = non_pae(), False
    prefixes = (1 << 22,)
    sizes = (PAGE, 4 << 20)
    places = tuple(NEAR + FAR)


class Pae(Machine):
    form, nx = pae(), True
    prefixes = (1 << 30, 1 << 21)
    sizes = (PAGE, 2 << 20)
    places = tuple(NEAR + FAR)


class LongMode(Machine):
    form, nx = long_mode(), True
    prefixes = (1 << 39, 1 << 30, 1 << 21)
    sizes = (PAGE, 2 << 20, 1 << 30)
    places = tuple(NEAR + FAR + UPPER)


STEPS = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)
for machine in (NonPae, Pae, LongMode):
    machine.TestCase.settings = STEPS
TestNonPae, TestPae, TestLongMode = NonPae.TestCase, Pae.TestCase, LongMode.TestCase
