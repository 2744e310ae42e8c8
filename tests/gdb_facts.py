"""What gdb says of a vmlinux: a second reader of types and symbols, which shares nothing with kvmtools' own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_END = "end of answer"


class GdbFacts:
    """Offsets, sizes, constants and addresses as the kernel was linked; a kernel that was moved adds its slide.

    :param answers: those that were recorded, or learned so far, by gdb's expression
    """

    def __init__(self, answers: dict[str, int]) -> None:
        self.answers = answers
        self._gdb: subprocess.Popen[str] | None = None

    @classmethod
    @contextmanager
    def of(cls, vmlinux: Path) -> Iterator[GdbFacts]:
        """Facts that a gdb is asked for as they are needed."""
        facts = cls({})
        with subprocess.Popen(
            ["gdb", "-q", "-nx", str(vmlinux)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as facts._gdb:
            try:
                yield facts
            finally:
                facts._gdb.kill()

    def __call__(self, expression: str) -> int:
        """The value of an expression in C."""
        if expression not in self.answers:
            said = re.search(r"=(\d+)", self._ask(f'printf "=%lu\\n", (unsigned long)({expression})'))
            self.answers[expression] = int(said[1]) if said else self._static(expression)
        return self.answers[expression]

    def offset(self, type_name: str, member: str) -> int:
        """Of a member, ``a.b[3].c`` too."""
        return self(f"&(({type_name} *)0)->{member}")

    def address(self, symbol: str) -> int:
        """Of a variable, or an element of one."""
        return self(f"&{symbol}")

    def _static(self, expression: str) -> int:
        """The address of a variable that only a function knows, by its name alone."""
        name = expression.removeprefix("&")
        listed = re.findall(rf"^0x(\w+)  {name}$", self._ask(f"info variables ^{name}$"), re.MULTILINE)
        assert len(listed) == 1, f"gdb cannot say {expression!r}"
        return int(listed[0], 16)

    def _ask(self, command: str) -> str:
        assert self._gdb, f"nobody asked gdb {command!r} when this guest was recorded (record it again)"
        assert self._gdb.stdin
        assert self._gdb.stdout
        self._gdb.stdin.write(f"{command}\necho \\n{_END}\\n\n")
        self._gdb.stdin.flush()
        return "".join(iter(self._gdb.stdout.readline, f"{_END}\n"))
