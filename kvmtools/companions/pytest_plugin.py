"""The pytest plugin: a guest, its kernel, a check, a recording and the model's prediction, as fixtures.

The entry point ``pytest11`` loads it into every pytest of an environment that has kvmtools.  So it imports nothing that
pytest has not, until one of its fixtures is used.  docs/pytest.md is its manual.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel
    from kvmtools.boot.guests.record import Guest
    from kvmtools.findings import Result

MARKER = (
    "kvm(kernel, memory, smp, append, symbols, initrd): the guest that kvm_guest boots for this test;"
    " a list boots one of each"
)
_numbers = itertools.count()


@dataclass(frozen=True)
class Machine:
    """What ``kvm_guest`` boots: the arguments of :func:`kvmtools.booted`."""

    kernel: str
    memory: str
    smp: int
    append: str = ""
    symbols: Path | None = None
    initrd: Path | None = None

    def __str__(self) -> str:
        """The parameter in a test's id."""
        return "-".join(filter(None, (Path(self.kernel).name, self.memory, f"smp{self.smp}", self.append)))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kvm", "guests of kvmtools, for tests whose kvm mark does not say it")
    group.addoption(
        "--kvm-kernel",
        action="append",
        metavar="KERNEL",
        help="what to boot: pae (the default), nopae, numa, sparse, an image, or the folder it was built in;"
        " given twice, both",
    )
    group.addoption("--kvm-symbols", type=Path, metavar="VMLINUX", help="the symbols of that image")
    group.addoption("--kvm-initrd", type=Path, metavar="PATH", help="its initial ramdisk")
    group.addoption(
        "--kvm-memory", action="append", metavar="SIZE", help="RAM, 64M to 60G (2G); given twice, both"
    )
    group.addoption("--kvm-smp", type=int, default=2, metavar="N", help="number of CPUs (2)")
    group.addoption(
        "--kvm-append", default="", metavar="PARAMETERS", help="kernel parameters, for every guest"
    )
    group.addoption(
        "--kvm-timeout", type=float, default=120.0, metavar="SECONDS", help="how long a guest may boot (120)"
    )
    group.addoption(
        "--kvm-require", action="store_true", help="fail where a test would be skipped for want of a guest"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    option = config.option
    if (option.kvm_symbols or option.kvm_initrd) and len(option.kvm_kernel or ()) != 1:
        raise pytest.UsageError("--kvm-symbols and --kvm-initrd belong to one --kvm-kernel")
    for kernel in option.kvm_kernel or ():
        if "/" in kernel and not Path(kernel).exists():
            raise pytest.UsageError(f"--kvm-kernel: there is no '{kernel}'")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kvm_guest" in metafunc.fixturenames:
        wanted = machines(metafunc.config.option, _marked(metafunc.definition))
        metafunc.parametrize("kvm_guest", wanted, ids=str, indirect=True, scope="session")


def _marked(item: pytest.Item) -> dict[str, Any]:
    """What the marks of a test say; the closest one wins."""
    said: dict[str, Any] = {}
    for mark in item.iter_markers("kvm"):
        if mark.args or not mark.kwargs.keys() <= Machine.__dataclass_fields__.keys():
            pytest.fail(f"{mark} is none of {MARKER}", pytrace=False)
        said = {**mark.kwargs, **said}
    return said


def machines(option: Any, marked: Mapping[str, Any]) -> list[Machine]:
    """One of each kernel, memory and number of CPUs: those of the mark, else those of the command line.

    The command line's kernel parameters are for all; its symbols and ramdisk are its kernel's.
    """
    theirs = {"symbols": option.kvm_symbols, "initrd": option.kvm_initrd} if "kernel" not in marked else {}
    files = {**theirs, **{name: Path(marked[name]) for name in ("symbols", "initrd") if name in marked}}
    return [
        Machine(str(kernel), memory, smp, f"{option.kvm_append} {append}".strip(), **files)
        for kernel, memory, smp, append in itertools.product(
            _each(marked.get("kernel", option.kvm_kernel or "pae")),
            _each(marked.get("memory", option.kvm_memory or "2G")),
            _each(marked.get("smp", option.kvm_smp)),
            _each(marked.get("append", "")),
        )
    ]


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


@pytest.fixture(scope="session")
def kvm_guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest that runs: its ``name``, ``console``, ``vmlinux``..., and our init in it, ``inside``.

    Tests that ask for the same one share it.
    """
    from kvmtools.api.guests import booted, hindrance
    from kvmtools.errors import KvmtoolsError

    machine: Machine = request.param
    option = request.config.option
    if reason := hindrance(machine.kernel, symbols=machine.symbols, initrd=machine.initrd):
        (pytest.fail if option.kvm_require else pytest.skip)(f"no guest: {reason}")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    name = f"pytest{worker}-{os.getpid()}-{next(_numbers)}"
    guest = booted(
        name,
        kernel=machine.kernel,
        memory=machine.memory,
        smp=machine.smp,
        append=machine.append,
        symbols=machine.symbols,
        initrd=machine.initrd,
        timeout=option.kvm_timeout,
    )
    with _signals_end_the_session(), _stopped_if_we_are_killed(name):
        begun = time.monotonic()
        refused = ""
        try:
            running = guest.__enter__()
        except KvmtoolsError as error:
            refused = str(error).replace("--timeout", "--kvm-timeout")
        if refused:  # not while the error is handled: pytest would show it twice
            pytest.fail(refused, pytrace=False)
        try:
            if state := _not_running(running, begun + option.kvm_timeout):
                pytest.fail(f"guest '{name}' did not boot: {state}", pytrace=False)
            yield running
        finally:
            guest.__exit__(None, None, None)


def _not_running(guest: Guest, deadline: float) -> str:
    """Wait for the kernel to run; what keeps it, if it does not.

    A kernel that is none of ours says nothing when it has booted, and little can be judged of one that still boots.
    """
    from kvmtools.api.opening import open_kernel
    from kvmtools.errors import GuestVanished, KvmtoolsError

    while True:
        try:
            with open_kernel(guest=guest.name) as kernel:
                state = kernel.state
        except GuestVanished as error:
            return str(error)
        except KvmtoolsError as error:  # before it has unpacked itself there is none
            state = str(error)
        if not state or "panicked" in state or time.monotonic() > deadline:
            return state
        time.sleep(0.2)


@pytest.fixture
def kvm_kernel(kvm_guest: Guest) -> Iterator[OpenKernel]:
    """The guest's kernel, to be asked: what :func:`kvmtools.open` returns."""
    from kvmtools.api.opening import open_kernel

    with open_kernel(guest=kvm_guest.name) as kernel:
        yield kernel


@pytest.fixture
def kvm_check(kvm_kernel: OpenKernel) -> Callable[..., Result]:
    """``kvm_check(*only, skip=())``: the test fails, with the findings as text, unless the guest agrees with the model.

    ``only`` and ``skip`` are ids of rules, or groups of them such as ``"pkmap"``.  It returns the
    :class:`kvmtools.Result`.
    """
    from kvmtools.report import render

    def check(*only: str, skip: tuple[str, ...] | list[str] = ()) -> Result:
        __tracebackhide__ = True
        result = kvm_kernel.check(only=only, skip=skip)
        if result.exit_code:
            # The first line is all that pytest's summary has room for.
            broken = ", ".join(dict.fromkeys(finding.rule for finding in result.findings))
            pytest.fail(f"{broken or result.summary}\n\n{render(result)}", pytrace=False)
        return result

    return check


@pytest.fixture
def kvm_snapshot(kvm_kernel: OpenKernel, tmp_path: Path) -> Callable[..., Path]:
    """``kvm_snapshot(name)``: a recording of the guest as it is now, a file of the test's ``tmp_path``.

    ``kvmtools.open(core=path)`` opens it, and ``kvmtools check -c`` does where it is kept.
    """
    numbers = itertools.count(1)

    def record(name: str = "") -> Path:
        return kvm_kernel.snapshot(tmp_path / (name or f"guest-{next(numbers)}.vmcore"))

    return record


@pytest.fixture
def kvm_model(kvm_kernel: OpenKernel) -> Any:
    """What the model says that this kernel ought to have: a :class:`kvmtools.model.Prediction`."""
    return kvm_kernel.prediction()


@contextmanager
def _signals_end_the_session() -> Iterator[None]:
    """SIGTERM and SIGHUP end pytest as Ctrl-C does, so that fixtures are torn down; by itself it would just die."""

    def end(number: int, _frame: FrameType | None) -> None:
        pytest.exit(f"ended by {signal.Signals(number).name}", returncode=128 + number)

    here = threading.current_thread() is threading.main_thread()
    ours = [s for s in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(s) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _stopped_if_we_are_killed(name: str) -> Iterator[None]:
    """A shell that outlives us and stops the guest once we are gone, by SIGKILL even: its pipe ends then."""
    stop = 'read -r _; exec "$0" -m kvmtools guest stop "$1"'
    with subprocess.Popen(
        ["sh", "-c", stop, sys.executable, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as watch:
        try:
            yield
        finally:
            watch.kill()
