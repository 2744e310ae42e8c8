"""What must be copied while the guest is paused, and no more: everything else can wait until it runs again.

Each observer says what it reads (its ``needs``); following the kernel's lists to say so is itself the
capture, because a :class:`~kvmtools.attach.memory.snapshot.Snapshot` keeps what is read through it.  What takes long
and does not depend on the moment (asking drgn, getting the memory for the copy) is done by :func:`prepare`,
before the pause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.errors import MemoryFault, Unobserved
from kvmtools.observe.boot import ram
from kvmtools.observe.boot.configuration import observe_configuration
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap import kmap_local, pkmap
from kvmtools.observe.pages import memmap
from kvmtools.observe.paging.walk import last_tables
from kvmtools.observe.per_cpu import physical_ranges, possible_cpus
from kvmtools.observe.progress import panic
from kvmtools.observe.space.kexec import observe_control_pages
from kvmtools.observe.space.layout import observe_layout
from kvmtools.observe.tasks.processes import observe_processes
from kvmtools.observe.zones import zones
from kvmtools.records import PAGE_SIZE, Range

#: Whole sections of the image that are kept, for whoever asks the snapshot for a variable afterwards: where each begins
#: and ends, and next best.
_KEPT_SECTIONS = (
    (("_sdata", "_etext", "_text"), ("_edata", "__init_begin", "_end")),
    (("__bss_start", "__init_end", "_edata"), ("__bss_stop", "__brk_base", "_end")),
)

#: Above this many bytes a range is copied as a whole, below it page by page: ranges have to be sorted in.
_WHOLE = 16 * PAGE_SIZE

Needs = Callable[[Kernel], Iterable[Range]]
Observer = Callable[[Kernel, Snapshot], object]


class Capture:
    """One capture, prepared outside the pause; a context manager that lets go of the guest's memory at its
    end.

    :param processes: whether the user half of every process's page tables is wanted too
    :param also: what else is to be read: whatever these read is kept
    """

    def __init__(self, kernel: Kernel, *, processes: bool = True, also: Sequence[Observer] = ()) -> None:
        self._kernel = kernel
        self._also = also
        self._with_processes = processes
        self._snapshot = Snapshot(kernel.memory)

    def prepare(self) -> None:
        """Everything that need not see the guest at rest: once through all the steps, on a snapshot for the
        bin.

        The guest runs meanwhile, so a list may lead nowhere: that is no matter, the facts about it are known
        now.
        """
        discarded = Snapshot(self._kernel.memory)
        rehearsal = self._kernel.with_memory(discarded)
        for needs in (_sections, *_NEEDS):
            with suppress(Unobserved):
                for each in needs(rehearsal):
                    if len(each) > _WHOLE:
                        self._snapshot.prepare(each.start, len(each))
        with suppress(Unobserved):
            self._observe(discarded)

    def take(self) -> Snapshot:
        """Copy what the observers read; call this while the guest is paused.  The snapshot is sealed.

        What lies nowhere is not in it: whoever decodes the snapshot will come to the same place, and say so.

        :raises MemoryFault: if the kernel's own data is not there, or the capture was taken before
        """
        kernel = self._kernel.with_memory(self._snapshot)
        for section in _sections(kernel):
            self._snapshot.keep(section.start, len(section))
        for needs in _NEEDS:
            with suppress(Unobserved):
                for each in needs(kernel):
                    with suppress(Unobserved):
                        _read(self._snapshot, each)
        with suppress(Unobserved):
            self._observe(self._snapshot)
        self._snapshot.seal()
        return self._snapshot

    def _observe(self, snapshot: Snapshot) -> None:
        """Run observers that are cheaper to run than to describe; the snapshot keeps what they read."""
        kernel, pkmap_base = self._kernel.with_memory(snapshot), None
        with suppress(Unobserved):
            observe_configuration(kernel)
        with suppress(Unobserved):
            observe_control_pages(kernel)
        panic(kernel)
        for read in self._also:
            with suppress(Unobserved):
                read(kernel, snapshot)
        with suppress(Unobserved):
            keep_tables(snapshot, kernel, [kernel.root])
        with suppress(Unobserved):
            pkmap_base = observe_layout(kernel).pkmap_base
        pgds = [process.pgd for process in observe_processes(kernel)]
        if not self._with_processes:
            return
        keep_tables(snapshot, kernel, pgds, end=kernel.page_offset)
        if pkmap_base is not None:
            # With page-table isolation every process has middle tables of its own for the kernel's half.
            keep_tables(snapshot, kernel, pgds, start=pkmap_base, end=pkmap_base + PAGE_SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._snapshot.seal()


def prepare(kernel: Kernel, *, processes: bool = True, also: Sequence[Observer] = ()) -> Capture:
    """Get ready to capture ``kernel``, as far as that can be done while the guest runs."""
    capture = Capture(kernel, processes=processes, also=also)
    capture.prepare()
    return capture


def _read(snapshot: Snapshot, wanted: Range) -> None:
    """Copy a range, as a whole if it is large, else page by page.

    :raises MemoryFault: if it is not all RAM
    """
    if len(wanted) > _WHOLE:
        snapshot.keep(wanted.start, len(wanted))
    elif len(wanted):
        snapshot.view(wanted.start, len(wanted))


def keep_tables(
    snapshot: Snapshot, kernel: Kernel, roots: list[int], *, start: int = 0, end: int | None = None
) -> None:
    """Copy the page tables that map ``[start, end)``; of a run of them that leaves RAM, those that are there."""
    for run in last_tables(snapshot, roots, kernel.paging, start=start, end=end):
        try:
            _read(snapshot, run)
        except MemoryFault:
            for page in range(run.start, run.end, PAGE_SIZE):
                with suppress(MemoryFault):
                    _read(snapshot, Range(page, page + PAGE_SIZE))


def _sections(kernel: Kernel) -> Iterator[Range]:
    for edges in _KEPT_SECTIONS:
        first, after = (kernel.address(kernel.vmlinux.which_symbol(*names)) for names in edges)
        yield Range(kernel.physical(first), kernel.physical(after))


def _static_per_cpu(kernel: Kernel) -> Iterator[Range]:
    """Every CPU's copy of the statically allocated per-CPU variables."""
    if not kernel.vmlinux.smp:
        return
    first, after = kernel.address("__per_cpu_start"), kernel.address("__per_cpu_end")
    for cpu in possible_cpus(kernel):
        with suppress(Unobserved):
            yield from physical_ranges(kernel, kernel.per_cpu(first, cpu), after - first)


_NEEDS: tuple[Needs, ...] = (
    memmap.needs,
    _static_per_cpu,
    zones.needs,
    pkmap.needs,
    kmap_local.needs,
    ram.needs,
)
