"""Every example of the documentation runs, and prints what is shown; a recorded guest is the kernel that it opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from opened_kernel import always_opens, recorded_session

import kvmtools
import kvmtools.model

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?: {3}.*\n|\n)+)", re.MULTILINE)
FENCE = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """Kind and text of each block of code, in reStructuredText or Markdown."""
    return BLOCK.findall(text) + FENCE.findall(text)


TEXTS = {
    **{path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.rst"))},
    "README": (ROOT / "README.md").read_text(encoding="utf-8"),
    "import kvmtools": kvmtools.__doc__ or "",
    "import kvmtools.model": kvmtools.model.__doc__ or "",
}
WITH_EXAMPLES = [name for name, text in TEXTS.items() if blocks(text)]


@dataclass(frozen=True)
class Example:
    """Code, and what it prints; ``...`` stands for anything."""

    code: str
    shown: str


def examples(text: str) -> Iterator[Example]:
    code = ""
    for kind, indented in (*blocks(text), ("python", "")):
        block = dedent(indented).strip("\n")
        if kind == "python":
            if code:
                yield Example(code, "")
            code = block
        else:
            yield Example(code, block)
            code = ""


def fits(shown: str, printed: str) -> bool:
    """Whether the text is what is shown, ``...`` being anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("..."))), printed, re.DOTALL) is not None


def run(code: str, names: dict[str, Any]) -> str:
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "<example>", "exec"), names)
    return printed.getvalue().rstrip("\n")


def test_there_are_examples() -> None:
    assert {"README", "first_steps", "import kvmtools", "import kvmtools.model"} <= set(WITH_EXAMPLES)
    assert len(list(examples(TEXTS["first_steps"]))) > 5
    assert {kind for text in TEXTS.values() for kind, _block in blocks(text)} <= {"python", "text"}
    assert not any("\n>>> " in text for text in TEXTS.values())


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_print_what_is_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    always_opens(monkeypatch, recorded_session("pae"))
    names: dict[str, Any] = {}
    for example in examples(TEXTS[name]):
        printed = run(example.code, names)
        assert fits(example.shown, printed), (example.code, printed)


def test_what_is_shown_is_compared() -> None:
    assert fits("a ...\nb", "a 1\nc\nb")
    assert not fits("a ...\nb", "a 1\nbc")
    assert [
        (e.code, e.shown)
        for e in examples(".. code-block:: python\n\n   1\n\n.. code-block:: text\n\n   2\n")
    ] == [("1", "2")]
