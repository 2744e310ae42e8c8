"""The kernel of one guest, to be asked: what :func:`kvmtools.open` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.api.addresses import Address, virtual
from kvmtools.api.page_tables import PageTable, PageTableChoice
from kvmtools.api.session import Session
from kvmtools.attach.closing import Closing
from kvmtools.errors import UsageError

if TYPE_CHECKING:
    import drgn
    import numpy as np
    from numpy.typing import NDArray

    from kvmtools.api.layout import KernelLayout
    from kvmtools.api.mappings import Mappings
    from kvmtools.api.page_use import PageUse
    from kvmtools.api.pages import Page
    from kvmtools.api.pkmap import PkmapSlots
    from kvmtools.api.registers import Vcpus
    from kvmtools.api.translations import TranslatedAddress
    from kvmtools.api.zones import Zones
    from kvmtools.attach.monitor.pause import Pause, Pausing
    from kvmtools.findings import Result
    from kvmtools.model.prediction import Prediction
    from kvmtools.observe.observed import Observed
    from kvmtools.observe.tasks.processes import Process
    from kvmtools.records import Configuration
    from kvmtools.survey import Survey

SAMPLES = 8


def _raise(error: UsageError) -> None:
    raise error


class OpenKernel(Closing):
    """One guest's kernel; a context manager that lets go of the guest at its end.

    Every question reads the guest anew, and holds it for the milliseconds that this takes; what belongs together is
    asked under :meth:`paused`.  An *address* is a number (NumPy's too), or a text as the command line takes it:
    ``"c1000000"``, a symbol, ``"init_task+8"``.  Virtual addresses go through the kernel's own page table
    (``swapper_pg_dir``), or through that of a process (``pid``), of a vCPU (``cpu``), or the one at a physical address
    (``cr3``); at most one is named.

    All questions may raise :exc:`~kvmtools.GuestVanished` if QEMU is gone, :exc:`~kvmtools.MemoryFault` if what they
    need cannot be read, and :exc:`~kvmtools.Inconclusive` if it cannot be because the guest was not to be paused.
    What of an answer needs a symbol, a type or a member that this kernel lacks raises :exc:`~kvmtools.SymbolsError`
    when it is asked for; the rest is there.
    """

    def __init__(self, session: Session, *, demand_gdb: bool = False) -> None:
        self.session = session
        self._demand_gdb = demand_gdb

    def check(
        self,
        *,
        only: Sequence[str] = (),
        skip: Sequence[str] = (),
        samples: int = SAMPLES,
        declared: bool = False,
    ) -> Result:
        """Compare what the kernel has with what it ought to have; ``summary`` of the result is the verdict.

        What may be a change under way is looked at again: it counts if it was seen in three samples in a row.

        :param only: ids of rules, or groups of them such as ``"pkmap"``; all if empty
        :param skip: those to leave out
        :param samples: how often to look at most
        :param declared: tell where in the kernel's source that is declared which findings are about: SARIF points there
        :raises UsageError: if a word names no rule
        """
        from kvmtools.api import checking

        result = checking.verdict(self.session, only, skip, samples)
        return replace(result, declared=checking.declared(self.session)) if declared else result

    def survey(self, *, only: Sequence[str] = (), skip: Sequence[str] = (), samples: int = SAMPLES) -> Survey:
        """:meth:`check`, and what a report draws beside its ``result``: all of one moment, as plain numbers and names.

        :raises UsageError: if a word names no rule
        """
        from kvmtools.api.surveying import survey

        return survey(self.session, only, skip, samples)

    def vtop(
        self,
        address: Address,
        *,
        pid: int | None = None,
        cpu: int | None = None,
        cr3: Address | None = None,
    ) -> TranslatedAddress:
        """Translate a virtual address: every level with its raw entry, the region, the ``struct page``.

        An address that is not mapped is an answer: its ``fault`` says why.

        :raises UsageError: if it is no address, or there is no such process or vCPU
        """
        return self.vtop_each([address], pid=pid, cpu=cpu, cr3=cr3)[0]

    def vtop_each(
        self,
        addresses: Sequence[Address],
        *,
        pid: int | None = None,
        cpu: int | None = None,
        cr3: Address | None = None,
    ) -> list[TranslatedAddress]:
        """:meth:`vtop` of each, all at one moment."""
        from kvmtools.api.translations import translated

        return translated(self.session, addresses, PageTableChoice(cr3, cpu, pid))

    def translate(
        self,
        addresses: Sequence[Address] | NDArray[np.unsignedinteger],
        *,
        pid: int | None = None,
        cpu: int | None = None,
        cr3: Address | None = None,
    ) -> NDArray[np.uint64]:
        """Physical addresses of many virtual ones at one moment, shape ``(addresses,)``, a thousand in a millisecond.

        :data:`kvmtools.NOT_MAPPED` stands for one that leads nowhere; :meth:`vtop` says why.

        :raises UsageError: if one is no address, or there is no such process or vCPU
        """
        from kvmtools.api.translations import physical_addresses

        return physical_addresses(self.session, addresses, PageTableChoice(cr3, cpu, pid))

    def walk(
        self,
        start: Address = 0,
        end: Address | None = None,
        *,
        region: str | None = None,
        pid: int | None = None,
        cpu: int | None = None,
        cr3: Address | None = None,
    ) -> Mappings:
        """All that a page table maps in ``[start, end)``.

        :param end: the first address behind it, which may be the end of the address space; that, if ``None``
        :param region: only what begins in this one, such as ``"vmalloc"`` or ``"direct map"``
        :raises UsageError: if the range is empty, or there is no such region, process or vCPU
        """
        from kvmtools.api.mappings import mapped

        choice = PageTableChoice(cr3, cpu, pid)
        behind = None if end is None else virtual(self.session.kernel, end, is_end=True)
        return mapped(self.session, choice, self.address(start), behind, region)

    def page(self, which: Address) -> Page:
        """One ``struct page`` in full.

        :param which: a pfn, the address of a ``struct page`` (a number from ``PAGE_OFFSET`` up), or one of them as the
            command line takes it, such as ``"phys:0x1473000"``
        :raises UsageError: if there is no such page
        """
        return self.pages([which])[0]

    def pages(self, which: Sequence[Address], *, refuse: Callable[[UsageError], None] = _raise) -> list[Page]:
        """:meth:`page` of each, all at one moment.

        :param refuse: is told of each that names no page; raises the error unless another is given
        """
        from kvmtools.api.pages import pages_of

        return pages_of(self.session, which, refuse)

    def memmap(self) -> PageUse:
        """Every ``struct page`` as NumPy columns, and what the pages are doing, by zone."""
        from kvmtools.api.page_use import page_use

        return page_use(self.observe(processes=False))

    def pkmap(self) -> PkmapSlots | None:
        """The slots of pkmap (512 with PAE, else 1024), and those in use; ``None`` without CONFIG_HIGHMEM."""
        from kvmtools.api.pkmap import pkmap_slots

        return pkmap_slots(self.observe(processes=False))

    def zones(self) -> Zones:
        """Every zone: span, sizes and watermarks in pages, free blocks by order, the CPUs' lists."""
        from kvmtools.api.zones import all_zones

        return all_zones(self.observe(processes=False))

    def layout(self) -> KernelLayout:
        """The boundaries of the kernel's address space and memory, the model's beside the guest's."""
        from kvmtools.api.layout import kernel_layout

        return kernel_layout(self.session)

    def regs(self) -> Vcpus:
        """The control registers of every vCPU, by GDB if it can be had, cross-checked with QMP.

        :raises AttachError: if a gdb socket was named for :func:`kvmtools.open` and does not serve
        """
        from kvmtools.api.registers import vcpus

        return vcpus(self.session, demand_gdb=self._demand_gdb)

    def processes(self) -> tuple[Process, ...]:
        """Every process with an address space of its own: ``pid``, ``comm``, ``task``, ``mm``, ``pgd`` (physical)."""
        from kvmtools.observe.tasks.processes import observe_processes

        return self.session.held(lambda: observe_processes(self.session.kernel))

    def configuration(self) -> Configuration:
        """All that the model is told of this guest: for :func:`kvmtools.model.predict`."""
        from kvmtools.observe.boot.configuration import observe_configuration

        return self.session.held(lambda: observe_configuration(self.session.kernel))

    def prediction(self) -> Prediction:
        """What the model says that a kernel of this configuration ought to have: ``layout``, ``zones``, ``pkmap``, ...

        :raises UsageError: (from any part) if no kernel can have this configuration
        """
        from kvmtools.model.prediction import predict

        return predict(self.configuration())

    def observe(self, *, processes: bool = True) -> Observed:
        """All that the observers see at one moment, as NumPy columns: ``walk``, ``memmap``, ``pkmap``, ``zones``, ...

        Only what is stored: what the model has to say of it (the zone in a page's flags, the order of a CPU's list) is
        in :meth:`memmap` and :meth:`zones`, and raises :class:`~kvmtools.errors.UsageError` here.

        :param processes: with the user half of every process's page table
        """
        return self.session.observe(processes=processes)

    def address(self, text: Address) -> int:
        """The virtual address that a symbol or any other text means.

        :raises UsageError: if it means none
        """
        return virtual(self.session.kernel, text)

    def page_table(
        self, *, pid: int | None = None, cpu: int | None = None, cr3: Address | None = None
    ) -> PageTable:
        """A page table by its CR3, and whose it is.

        :raises UsageError: if there is no such process or vCPU
        """
        choice = PageTableChoice(cr3, cpu, pid)
        return self.session.held(lambda: choice.find(self.session))

    def read(
        self,
        address: Address,
        size: int,
        *,
        pid: int | None = None,
        cpu: int | None = None,
        cr3: Address | None = None,
    ) -> bytes:
        """``size`` bytes at a virtual address, as they are now: the guest is not held.

        :raises MemoryFault: if one of them is not mapped, or not to RAM
        """
        from kvmtools.observe.program import read_through

        kernel, table = self.session.seen_by(cpu), PageTableChoice(cr3, cpu, pid).find(self.session)
        return read_through(kernel.memory, table.cr3, self.address(address), size, kernel.paging)

    def physical(self, address: int, size: int) -> bytes:
        """``size`` bytes at a guest-physical address, above 4 GiB too, as they are now: the guest is not held.

        :raises MemoryFault: if one of them is not RAM
        """
        return self.session.kernel.memory.read(address, size)

    def program(
        self, *, pid: int | None = None, cpu: int | None = None, cr3: Address | None = None
    ) -> drgn.Program:
        """A drgn program of the kernel; virtual addresses go through the page table.

        :raises SymbolsError: if drgn cannot use the vmlinux
        """
        from kvmtools.observe.program import OURS, drgn_program

        kernel, table = self.session.seen_by(cpu), PageTableChoice(cr3, cpu, pid).find(self.session)
        program = drgn_program(kernel.memory, kernel, cr3=table.cr3)
        program.config[OURS] = self
        return program

    def snapshot(
        self,
        path: str | Path,
        *,
        full: bool = False,
        compress: bool = False,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> Path:
        """Record this moment of the guest as an ELF core, which ``kvmtools.open(core=path)`` opens without a vmlinux.

        The guest is held while what the observers read is copied, not while it is written.  The file is there as a
        whole, or not at all; docs/recordings.md says what is in it.

        :param full: write all RAM, which holds the guest until it is written
        :param compress: with Zstandard, for which Python 3.14 or the extra ``kvmtools[zstd]`` is needed
        :param progress: is told how far it has come
        :raises OutputError: if the file cannot be written
        """
        from kvmtools.api.recording import record

        record(self.session, Path(path), full=full, compress=compress, progress=progress)
        return Path(path)

    def paused(self) -> Pausing:
        """Hold the guest for the length of a ``with``, so that several questions see one moment.

        It runs again afterwards, whatever happens; a guest that was paused before stays so, and one that was opened
        with ``pause=False`` is left alone.
        """
        return self.session.paused()

    @property
    def release(self) -> str:
        """``"Linux version 6.1.0"``, the banner up to its first bracket."""
        return self.session.kernel.banner.decode("latin-1").partition(" (")[0]

    @property
    def vmlinux(self) -> Path | None:
        """The file that types and symbols come from; ``None`` if they were recorded."""
        return self.session.kernel.vmlinux.path

    @property
    def slide(self) -> int:
        """What KASLR added to every address of the vmlinux, in bytes."""
        return self.session.kernel.slide

    @property
    def page_offset(self) -> int:
        """``PAGE_OFFSET``: the first virtual address of the kernel's half."""
        return self.session.kernel.page_offset

    @property
    def pae(self) -> bool:
        """Whether the kernel was built for PAE."""
        return self.session.kernel.architecture.told["pae"]

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """Every time that the guest was held, or was not to be, since it was opened: ``was_running``, ``held``,
        ``milliseconds``."""
        return tuple(self.session.pauses)

    @property
    def read_while_running(self) -> bool:
        """Whether anything was read while the guest ran, so that what changed meanwhile may look wrong."""
        return self.session.read_while_running

    @property
    def state(self) -> str:
        """That the kernel has panicked, and why, or how far it has come; empty if it just runs."""
        from kvmtools.observe.progress import state

        return state(self.session.kernel, self.session.target.registers())

    def close(self) -> None:
        """Let go of the guest; answers stay valid."""
        try:
            self.session.kernel.vmlinux.save()
        finally:
            self.session.target.close()

    def __repr__(self) -> str:
        return f"{self.release} in {self.session.target.description}"
