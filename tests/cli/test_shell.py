"""``shell``: what is run, with which words, and what becomes of its exceptions.  The program is a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Invoke = Callable[..., Any]


@pytest.fixture(autouse=True)
def _stand_in(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import drgn

    prog = drgn.Program()
    monkeypatch.setattr("kvmtools.api.prompt.namespace", lambda kernel, cr3: {"prog": prog, "cr3": cr3})


def test_code(invoke: Invoke) -> None:
    outcome = invoke("shell", "-e", "print(hex(cr3), __name__)")
    assert (outcome.code, outcome.out) == (0, "0x1000 __main__\n")


def test_code_on_stdin(invoke: Invoke) -> None:
    assert (
        invoke("shell", "--cr3", "0x5000", stdin="def f():\n    return cr3\n\nprint(f())\n").out == "20480\n"
    )


def test_a_script_and_its_arguments(invoke: Invoke, tmp_path: Path) -> None:
    script = tmp_path / "tasks.py"
    script.write_text("import sys\nprint(sys.argv[1:])\n")
    assert invoke("shell", str(script), "-v", "--from", "x").out == "['-v', '--from', 'x']\n"


def test_an_exception_is_the_scripts_own(invoke: Invoke, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("def f():\n    return 1 / 0\n\nf()\n")
    outcome = invoke("shell", str(script))
    assert outcome.code == 1
    assert "ZeroDivisionError" in outcome.err
    assert f'"{script}", line 2, in f' in outcome.err
    assert "shell.py" not in outcome.err


def test_a_syntax_error_too(invoke: Invoke) -> None:
    outcome = invoke("shell", "-e", "1 +")
    assert outcome.code == 1
    assert "SyntaxError" in outcome.err


def test_a_script_may_leave_with_a_code_of_its_own(invoke: Invoke) -> None:
    with pytest.raises(SystemExit) as caught:
        invoke("shell", "-e", "import sys; sys.exit(7)")
    assert caught.value.code == 7


def test_usage(invoke: Invoke, tmp_path: Path) -> None:
    assert "give one of them" in str(invoke("shell", "-e", "1", "script.py").error)
    missing = invoke("shell", str(tmp_path / "missing.py"))
    assert missing.code == 2
    assert "missing.py" in str(missing.error)


def test_a_stdout_that_is_full_is_not_the_scripts_fault(invoke: Invoke) -> None:
    code = """
import sys
class Full:
    def write(self, text): pass
    def flush(self): raise OSError(28, "No space left")
sys.stdout = Full()
print(1, flush=True)
"""
    with pytest.raises(OSError, match="No space left"):
        invoke("shell", "-e", code)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("code", ["print(1, flush=True)", "print('x' * 100000)"])
def test_a_full_disk_is_told_in_one_line(unbuffered: str, code: str) -> None:
    """The command's own ending, around a guest that stands in for one."""
    program = f"""
import sys
sys.argv = ["kvmtools", "shell", "-e", {code!r}]
sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
from opened_kernel import recorded_session
import kvmtools, kvmtools.api.prompt, kvmtools.api.opening, kvmtools.cli
session = recorded_session("pae")
kvmtools.api.opening.open_kernel = lambda **_options: kvmtools.OpenKernel(session)
kvmtools.api.prompt.namespace = lambda *_: {{"prog": None}}
kvmtools.cli.main()
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == "kvmtools: cannot write the output: No space left on device\n"
    assert done.returncode == 3


def test_another_file_that_is_full_is_the_scripts_own(invoke: Invoke) -> None:
    outcome = invoke("shell", "-e", "import os; os.write(os.open('/dev/full', os.O_WRONLY), b'x')")
    assert outcome.code == 1
    assert "No space left" in outcome.err


def test_a_fault_of_our_helpers_is_one_line(invoke: Invoke) -> None:
    outcome = invoke(
        "shell", "-e", "from kvmtools.errors import MemoryFault; raise MemoryFault(16, 'is nowhere')"
    )
    assert (outcome.code, outcome.err) == (1, "kvmtools: physical address 0x10: is nowhere\n")


@pytest.mark.parametrize(("terminal", "plain"), [("xterm", None), ("dumb", "1"), ("no-such-terminal", "1")])
def test_a_simple_terminal_gets_the_plain_prompt(terminal: str, plain: str | None) -> None:
    """Python 3.13's line editor needs one that can place its cursor; terminfo is asked once in a process's life."""
    code = "import os; from kvmtools.cli import shell; shell._spare_a_simple_terminal()"
    code += "; print(os.environ.get('PYTHON_BASIC_REPL'))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_BASIC_REPL"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "TERM": terminal},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{plain}\n"
