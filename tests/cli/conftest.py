"""The command line without a process around it, and a guest of a few pages to try it on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import CliRunner
from opened_kernel import always_opens

from kvmtools.api.pages import Page
from kvmtools.api.session import Session
from kvmtools.attach.monitor.pause import NoPause
from kvmtools.cli.group import cli
from kvmtools.errors import KvmtoolsError, MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.pages.page_flags import FlagLayout
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Layout, Range, Registers

SWAPPER = 0x1000
SYMBOLS = {
    "_text": 0xC010_0000,
    "_end": 0xC040_0000,
    "swapper_pg_dir": 0xC000_1000,
    "linux_banner": 0xC020_0140,
}
LAYOUT = Layout(
    page_offset=0xC000_0000,
    high_memory=0xC100_0000,
    vmalloc_start=0xC180_0000,
    vmalloc_end=0xFF5F_E000,
    pkmap_base=0xFF60_0000,
    last_pkmap=512,
    ldt_base=0xFF80_0000,
    cpu_entry_area_base=0xFFA0_0000,
    fixaddr_start=0xFFFE_B000,
    fixaddr_top=0xFFFF_F000,
)


@dataclass(frozen=True)
class Outcome:
    """What a person would have seen."""

    code: int
    out: str
    err: str
    error: BaseException | None


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """``invoke("vtop", "0xc0000000", stdin=...)``; errors of ours become their exit codes, others are raised."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*words: str, stdin: str | None = None) -> Outcome:
        result = CliRunner().invoke(cli, words, input=stdin, standalone_mode=False)
        if result.exception is not None:
            if not isinstance(result.exception, KvmtoolsError):
                raise result.exception
            return Outcome(result.exception.exit_code, result.stdout, result.stderr, result.exception)
        code = result.return_value if isinstance(result.return_value, int) else 0
        return Outcome(code, result.stdout, result.stderr, None)

    return run


class TinyMemory:
    """32 MiB of RAM from 0, of which only the pages that a test wrote to take room."""

    name = "test"
    ranges = (Range(0, 32 << 20),)

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def read(self, address: int, size: int) -> bytes:
        if not (address >= 0 and address + size <= self.ranges[0].end):
            raise MemoryFault(address, "no RAM of this guest")
        page, offset = divmod(address, 4096)
        data = bytes(self._pages.get(page, bytes(4096)))[offset : offset + size]
        return data if len(data) == size else data + self.read(address + len(data), size - len(data))

    def view(self, address: int, size: int) -> memoryview:
        return memoryview(self.read(address, size))

    def readinto(self, address: int, buffer: memoryview) -> None:
        buffer[:] = self.read(address, len(buffer))

    def write(self, address: int, data: bytes) -> None:
        page, offset = divmod(address, 4096)
        self._pages.setdefault(page, bytearray(4096))[offset : offset + len(data)] = data

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class TinyTarget:
    """A target of two vCPUs that never runs."""

    memory: TinyMemory
    monitor: object | None = None
    by_gdb: tuple[Registers, ...] | None = None
    cpus: tuple[Registers, ...] = field(
        default_factory=lambda: tuple(
            Registers(cpu, 0xC020_0000, 0x8001_0033, cr3, 0xB0, 0x800)
            for cpu, cr3 in ((0, SWAPPER), (1, 0x5000))
        )
    )

    def registers(self) -> tuple[Registers, ...]:
        return self.cpus

    def registers_by_gdb(self) -> tuple[Registers, ...]:
        from kvmtools.errors import AttachError

        if self.by_gdb is None:
            raise AttachError("there is no GDB socket")
        return self.by_gdb

    def paused(self) -> NoPause:
        return NoPause(was_running=False)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyTarget:
    """A PAE guest whose kernel maps 2 MiB at 0xc0200000, and a page of a device at 0xffffe000.

    Every command of this package finds it, whatever target is named.
    """
    memory = TinyMemory()
    for address, entry in (
        (SWAPPER + 8 * 3, 0x2001),
        (0x2000 + 8 * 0, 0x3063),
        (0x2000 + 8 * 1, 0x20_01E1),
        (0x2000 + 8 * 511, 0x4063),
        (0x3000 + 8 * 1, 1 << 63 | 0x1163),
        (0x3000 + 8 * 2, 1 << 63 | 0x2163),
        (0x4000 + 8 * 510, 1 << 63 | 0xFEC0_017B),
    ):
        memory.write(address, struct.pack("<Q", entry))
    vmlinux = Vmlinux("0" * 40, {f"symbol {name}": address for name, address in SYMBOLS.items()})
    vmlinux._answers |= {
        "enumerators fixed_addresses": {
            "FIX_HOLE": 0,
            "FIX_APIC_BASE": 1,
            "__end_of_permanent_fixed_addresses": 20,
            "__end_of_fixed_addresses": 20,
        },
        "sizeof pte_t": 8,
        "symbol boot_cpu_data": None,
        "page_offset page offset": 0xC000_0000,
        "symbol initial_page_table": None,
        "sizeof typeof(panic_cpu)": None,
        "sizeof typeof(system_state)": None,
    }
    target = TinyTarget(memory)
    session = Session(target, Kernel(vmlinux, 0, memory, 0xC000_0000, lowmem_end=0xC100_0000))  # type: ignore[arg-type]

    always_opens(monkeypatch, session)

    from kvmtools.observe.space.regions import Regions

    monkeypatch.setattr("kvmtools.observe.space.layout.observe_layout", lambda _kernel: LAYOUT)
    fixed = vmlinux.enumerators("fixed_addresses")
    monkeypatch.setattr(
        "kvmtools.observe.space.regions.regions_of",
        lambda _kernel, layout: Regions(layout, {}, fixed, end=1 << 32),
    )
    flags = FlagLayout({}, {})
    # The importing module first: loaded now, it would take the other's stand-in for the real one.
    monkeypatch.setattr("kvmtools.api.translations.flags_of", lambda _kernel: flags)
    monkeypatch.setattr("kvmtools.api.pages.flags_of", lambda _kernel: flags)
    monkeypatch.setattr("kvmtools.observe.pages.memmap.page_at", _page_at)
    monkeypatch.setattr("kvmtools.observe.pages.memmap.page_pfn", _page_pfn)
    return target


PAGES, PAGE_STRUCTS, PAGE_STRUCT = 8192, 0xC050_0000, 32


def _page(pfn: int, **changes: Any) -> dict[str, Any]:
    """What :meth:`MemMap.page` says of a reserved page."""
    page = {
        "pfn": pfn,
        "page": PAGE_STRUCTS + pfn * PAGE_STRUCT,
        "flags": 0x1000,
        "flag_names": ("PG_reserved",),
        "zone": "NORMAL",
        "node": 0,
        "section": None,
        "refcount": 1,
        "mapcount": 0,
        "page_type": 0xFFFF_FFFF,
        "type_names": (),
        "buddy_order": None,
        "private": 0,
        "mapping": 0,
        "anonymous": False,
        "index": 0,
        "lru_next": 0x100,
        "lru_prev": 0x122,
        "compound_head": None,
    }
    return {**page, **changes}


def _page_at(_kernel: Kernel, pfn: int, _layout: FlagLayout) -> dict[str, Any]:
    if pfn >= PAGES:
        raise IndexError(f"pfn {pfn:#x} has no struct page")
    return _page(pfn)


def _page_pfn(_kernel: Kernel, virtual: int) -> int:
    pfn, rest = divmod(virtual - PAGE_STRUCTS, PAGE_STRUCT)
    if rest or not 0 <= pfn < PAGES:
        raise IndexError(f"no struct page begins at {virtual:#x}")
    return pfn


@pytest.fixture
def a_page() -> Callable[..., Page]:
    """``a_page(pfn, refcount=0, ...)``: a reserved page, with changes."""
    return lambda pfn, **changes: Page(**_page(pfn, **changes))
