"""Recording a guest: one moment of it as an ELF core that answers every question without its vmlinux."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.api.checking import declared, verdict
from kvmtools.api.layout import kernel_layout
from kvmtools.api.mappings import mapped
from kvmtools.api.page_tables import PageTableChoice
from kvmtools.api.page_use import page_use
from kvmtools.api.pages import pages_of
from kvmtools.api.pkmap import pkmap_slots
from kvmtools.api.registers import vcpus
from kvmtools.api.session import Session
from kvmtools.api.translations import translated
from kvmtools.api.zones import all_zones
from kvmtools.attach.core_target import StillTarget
from kvmtools.attach.memory import recording_file
from kvmtools.attach.memory.recording_file import Contents
from kvmtools.attach.recording import Recording
from kvmtools.errors import KvmtoolsError, Unobserved
from kvmtools.observe import observed
from kvmtools.observe.kernel_log import log_of
from kvmtools.observe.progress import state
from kvmtools.observe.recordable import keep_cpus, keep_what_is_asked, mapped_at
from kvmtools.observe.space.layout import kernel_walk
from kvmtools.observe.vmcoreinfo import vmcoreinfo

if TYPE_CHECKING:
    from kvmtools.attach.general_registers import GeneralRegisters
    from kvmtools.attach.memory.snapshot import Snapshot
    from kvmtools.observe.kernel import Kernel
    from kvmtools.records import Range, Registers

Progress = Callable[[str], None]


def record(session: Session, path: Path, *, full: bool, compress: bool, progress: Progress) -> None:
    """See :meth:`kvmtools.api.open_kernel.OpenKernel.snapshot`."""
    recorder = _Recorder(session, full, progress)
    declared(session)  # a fact of the vmlinux that gdb takes seconds for: not while the guest is held
    with observed.prepare(session.kernel, also=(recorder.keep,)) as capture:
        with session.target.paused() as pause:
            progress("capturing")
            recorder.registers = session.target.registers()
            recorder.general = session.target.general_registers()
            snapshot = capture.take()
            if full:
                recording_file.write(path, recorder.contents(snapshot), compress=compress, progress=progress)
        session.pauses.append(pause)
    if not full:
        recording_file.write(path, recorder.contents(snapshot), compress=compress, progress=progress)


class _Recorder:
    """One recording under way."""

    def __init__(self, session: Session, full: bool, progress: Progress) -> None:
        self._session, self._full, self._progress = session, full, progress
        self.registers: Sequence[Registers] = session.target.registers()
        self.general: Sequence[GeneralRegisters] = session.target.general_registers()

    def keep(self, kernel: Kernel, snapshot: Snapshot) -> None:
        """What no observer reads, and a recording is to have."""
        keep_what_is_asked(kernel)
        keep_cpus(kernel, snapshot, self.registers, self.general)

    def contents(self, snapshot: Snapshot) -> Contents:
        """What is written of what was captured."""
        self._progress("asking what the commands ask")
        kernel = self._session.kernel.with_memory(snapshot)
        memory = self._session.kernel.memory if self._full else snapshot
        captured = memory.ranges if self._full else snapshot.captured
        log = self._log(kernel)  # asks the vmlinux, too: before its facts are written down
        recording = Recording(
            source=self._session.target.description,
            registers=tuple(self.registers),
            ram=snapshot.ranges,
            slide=kernel.slide,
            facts=self._facts(kernel),
            log=log,
            full=self._full,
        )
        return Contents(
            memory=memory,
            captured=captured,
            virtual=_mapped(kernel, captured),
            recording=recording,
            cpus=self.general,
            vmcoreinfo=vmcoreinfo(kernel, self._session.target.vmcoreinfo()),
        )

    def _log(self, kernel: Kernel) -> str | None:
        """What the kernel printed; of a recording that is recorded, what it says."""
        earlier = self._session.target.recording
        return log_of(kernel) if earlier is None else earlier.log

    def _facts(self, kernel: Kernel) -> dict[str, object]:
        """What is known of the vmlinux, once all has been asked that can be asked of this recording."""
        still = StillTarget(kernel.memory, tuple(self.registers), tuple(self.general))
        _ask_everything(Session(still, kernel))
        return {**kernel.vmlinux.to_json(), "symbols": kernel.vmlinux.all_symbols()}


def _mapped(kernel: Kernel, captured: Sequence[Range]) -> list[tuple[int, Range]]:
    with suppress(Unobserved):
        return mapped_at(kernel, kernel_walk(kernel), captured)
    return []


def _ask_everything(session: Session) -> None:
    """Every question that a command asks: of the same memory it will ask the same again."""
    seen = session.observe()
    kernel, table = seen.kernel, PageTableChoice(None, None, None)
    questions: tuple[Callable[[], object], ...] = (
        lambda: verdict(session, (), (), 1),
        lambda: page_use(seen),
        lambda: pkmap_slots(seen),
        lambda: all_zones(seen),
        lambda: kernel_layout(session),
        lambda: vcpus(session, demand_gdb=False),
        lambda: mapped(session, table, 0, None, None),
        lambda: state(kernel, seen.registers),
        lambda: pages_of(session, [0], lambda _error: None),
        lambda: translated(session, [kernel.architecture.root, kernel.page_offset], table),
    )
    for ask in questions:
        with suppress(KvmtoolsError):
            repr(ask())  # an answer asks some things when it is printed
