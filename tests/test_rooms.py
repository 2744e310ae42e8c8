"""The arrows of the house: which room may import which, held by reading every import statement.

Imports inside functions count like all others.  A room that imports against an arrow would let the model
and the observer share code, and then their agreement would prove nothing.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kvmtools"

ARROWS = {
    "records": frozenset[str](),
    "errors": frozenset[str](),
    "paths": frozenset({"errors"}),
    "whole_file": frozenset({"errors"}),
    "findings": frozenset({"records", "show"}),
    "survey": frozenset({"findings", "show"}),
    "boot": frozenset({"records", "errors", "paths", "attach"}),
    "attach": frozenset({"records", "errors", "paths", "whole_file"}),
    "observe": frozenset({"attach", "records", "errors", "paths"}),
    "model": frozenset({"records", "errors"}),
    "compare": frozenset({"observe", "model", "findings", "records", "errors"}),
    "show": frozenset({"records", "errors"}),
    "report": frozenset({"show", "findings", "survey", "records", "errors"}),
    "api": frozenset(
        {"boot", "attach", "observe", "model", "compare", "show", "findings", "survey", "records", "errors"}
    ),
    "companions/gdb": frozenset(),
    "companions": frozenset({"api", "show", "report", "boot", "findings", "errors"}),
    "drgn": frozenset({"companions"}),
    "cli": frozenset(
        {"api", "show", "report", "boot", "findings", "survey", "records", "errors", "paths", "whole_file"}
    ),
    "cli/model": frozenset({"cli", "model", "show", "records", "errors"}),
    "__init__": frozenset({"api", "model", "report", "findings", "survey", "errors"}),
    "__main__": frozenset({"cli"}),
}
"""Room to the rooms it may import, itself aside."""
LIBRARIES = {"report": {"jinja2"}, "companions/gdb": {"gdb"}}
"""What a room may use that a user may not have; it is imported where it is used, and nothing else fails without it.
The Python inside gdb has the module gdb, and it alone."""
STANDARD_LIBRARY_ONLY = {
    "records",
    "errors",
    "paths",
    "whole_file",
    "findings",
    "survey",
    "model",
    "show",
    "report",
    "__init__",
    "__main__",
    "companions/gdb",
}
INNER_ROOMS = ("cli/model", "companions/gdb")

ROOMS = {name for name in ARROWS if name != "__init__"}

LAYERS = {
    "api": (
        "session addresses page_tables pages translations mappings page_use pkmap zones layout registers checking"
        " page_map surveying guests recording open_kernel adopted module_symbols prompt opening differences watching"
    ),
    "attach": (
        "closing elf general_registers recording monitor memory proof transports target core_target live_target open"
    ),
    "boot": "host kernels guests",
    "observe": (
        "broken partial paging architecture symbols kernel processor per_cpu structure printk progress kernel_log"
        " vmcoreinfo noted recorded spinlock nodes program tasks pages zones kmap boot space capture recordable"
        " observed changes"
    ),
    "model": (
        "bugs rounding command_line eras boot_features impossible memory machine paging pages space pkmap prediction"
        " memmaps buddy kernel_tables budget managed"
    ),
    "compare": (
        "subjects flag_fields whole_memmap list_orders free_blocks locks case places rule rules needs identity engine"
        " settle"
    ),
    "show": (
        "style printable gaps tables addresses drawing differences pages translations mappings page_use pkmap zones"
        " layout registers watching"
    ),
    "report": "heading explanations source_places summary text catalogue document json_schema junit sarif page",
}
"""Inside a room: its folders and files from the ground up; each may import those that are named before it."""

COMPUTED = "a name that is computed"
"""Who imports such a thing may import anything."""
MAY_COMPUTE = ("cli", "__init__")

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room's name; ``python -m`` is a way into the command line, wherever it stands."""
    if path.stem == "__main__":
        return "__main__"
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    inner = "/".join(parts[:2])
    return inner if inner in INNER_ROOMS else parts[0]


def imports_of(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """``(line, dotted name)`` of everything that a file imports, wherever the statement stands."""
    package = ["kvmtools", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0] if node.args else None
            written = isinstance(name, ast.Constant) and isinstance(name.value, str)
            yield node.lineno, str(name.value) if isinstance(name, ast.Constant) and written else COMPUTED


def broken_arrows(path: Path, source: str) -> list[str]:
    room = room_of(path)
    broken = []
    for line, name in imports_of(path, source):
        parts = name.split(".")
        if name == COMPUTED:
            allowed = room in MAY_COMPUTE
        elif parts[0] == "kvmtools":
            # `from kvmtools import records` names the room just as `import kvmtools.records` does.
            target = parts[1] if len(parts) > 1 and parts[1] in ROOMS else "__init__"
            if "/".join(parts[1:3]) in INNER_ROOMS:
                target = "/".join(parts[1:3])
            allowed = target in ARROWS[room] or target == room or parts[1:] == ["__version__"]
        else:
            known = sys.stdlib_module_names | LIBRARIES.get(room, set())
            allowed = room not in STANDARD_LIBRARY_ONLY or parts[0] in known
        if not allowed:
            broken.append(f"{path.relative_to(ROOT)}:{line}: {room} may not import {name}")
    return broken


def inner_place(path: Path) -> str:
    """The folder or file of its room that a file belongs to; empty for the room's own ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if len(parts) < 2 or parts[1] == "__init__" else parts[1]


def upward(path: Path, source: str) -> list[str]:
    """What a file imports from above it in its own room."""
    room, place = room_of(path), inner_place(path)
    if room not in LAYERS or not place or path.stem == "__main__":
        return []
    order = LAYERS[room].split()
    found = []
    for line, name in imports_of(path, source):
        parts = name.split(".")
        if parts[:2] == ["kvmtools", room] and len(parts) > 2 and parts[2] in order[order.index(place) + 1 :]:
            found.append(f"{path.relative_to(ROOT)}:{line}: {place} may not import {name}")
    return found


def import_graph() -> dict[str, set[str]]:
    """Every module of ours with the modules of ours that it imports."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    graph: dict[str, set[str]] = {}
    for module, path in names.items():
        used = graph.setdefault(module, set())
        for _line, name in imports_of(path, path.read_text(encoding="utf-8")):
            if (
                name == "kvmtools.__version__"
            ):  # a word of the package's first lines, there before all its modules
                continue
            target = name if name in names else name.rpartition(".")[0]
            if target in names and target != module:
                used.add(target)
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, in order; none if there is no circle."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str]:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if circle := visit(target, [*way, module]):
                return circle
        done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := visit(module, []))), [])


def test_every_file_of_a_room_has_a_layer() -> None:
    for room, order in LAYERS.items():
        found = {inner_place(path) for path in FILES if room_of(path) == room} - {""}
        assert found == set(order.split()), room


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_inside_a_room_go_down(path: Path) -> None:
    assert upward(path, path.read_text(encoding="utf-8")) == []


def test_no_module_imports_itself_through_others() -> None:
    graph = import_graph()
    assert len(graph) == len(FILES)
    assert circle_in(graph) == []


def test_a_circle_and_a_way_up_are_noticed() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    source = "def f():\n    from kvmtools.attach.open import open_target"
    assert len(upward(PACKAGE / "attach" / "monitor" / "qmp.py", source)) == 1
    assert upward(PACKAGE / "attach" / "open.py", "from kvmtools.attach.monitor.qmp import QmpMonitor") == []


def test_every_file_is_in_a_room() -> None:
    assert {room_of(path) for path in FILES} <= set(ARROWS)
    assert {"model", "records", "errors"} <= {room_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path: Path) -> None:
    assert broken_arrows(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("model/paging.py", "import numpy"),
        ("model/paging.py", "def f():\n    from kvmtools.observe import paging"),
        ("model/paging.py", "from ..observe.paging import walk"),
        ("model/paging.py", "from .. import attach"),
        ("model/paging.py", "import importlib\nimportlib.import_module('kvmtools.observe.paging.walk')"),
        ("model/paging.py", "import importlib\nimportlib.import_module('kvmtools.' + 'observe')"),
        ("observe/paging.py", "from kvmtools.model.paging.walk import walk"),
        ("observe/paging.py", "import kvmtools.model"),
        ("observe/paging.py", "if True:\n    from kvmtools import model"),
        ("attach/target.py", "import kvmtools.observe.kernel as kernel"),
        ("report/text.py", "from kvmtools.observe.paging.walk import Walk"),
        ("report/text.py", "from kvmtools.compare.rules import RULES"),
        ("compare/check.py", "from kvmtools.boot import guests"),
        ("records.py", "from kvmtools.errors import UsageError"),
        ("paths.py", "import rich"),
        ("observe/kernel.py", "from kvmtools import open"),
        ("cli/vtop.py", "from kvmtools.observe.kernel import Kernel"),
        ("cli/pkmap.py", "from kvmtools.model.pkmap.area import PkmapArea"),
        ("cli/model/pkmap.py", "from kvmtools.api.opening import open_kernel"),
        ("companions/shell.py", "from kvmtools.cli.output import emit"),
        ("companions/gdb/stub.py", "from kvmtools.show.printable import printable"),
        ("companions/gdb/stub.py", "import numpy"),
        ("companions/gdb/stub.py", "from kvmtools.api.opening import open_kernel"),
        ("show/pages.py", "from kvmtools.api.pages import Page"),
    ],
)
def test_a_broken_arrow_is_noticed(file: str, source: str) -> None:
    assert len(broken_arrows(PACKAGE / file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("model/zones.py", "import struct\nfrom kvmtools.records import Range\nfrom .ram import Ram"),
        ("model/layout.py", "from kvmtools.model import ram\nfrom . import zones"),
        ("observe/paging.py", "import numpy\nfrom kvmtools.attach.memory.physical import PhysicalMemory"),
        ("cli/check.py", "def f():\n    import kvmtools.boot.guests"),
        ("cli/model/pkmap.py", "from kvmtools.model.pkmap.area import PkmapArea"),
        ("companions/gdb/stub.py", "import json\nimport gdb\nfrom .companion import Companion"),
        (
            "boot/guests.py",
            "from kvmtools.attach.monitor.qmp import Monitor\nfrom kvmtools import __version__",
        ),
    ],
)
def test_what_is_allowed_passes(file: str, source: str) -> None:
    assert broken_arrows(PACKAGE / file, source) == []


def test_what_runs_inside_gdb_names_itself_by_dots_alone() -> None:
    """Gdb loads that folder by itself, under another name, and has no kvmtools."""
    inside = [path for path in FILES if room_of(path) == "companions/gdb"]
    assert len(inside) > 3
    for path in inside:
        named = [
            name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
        ]
        assert not any(name.partition(".")[0] == "kvmtools" for name in named), path


LIST_MODULES = """
import importlib, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*(set(sys.modules) - before))
"""


WORDS = {"kvmtools", "kvmtools.errors", "kvmtools.records"}


@pytest.mark.parametrize(
    ("room", "others"),
    [("model", WORDS), ("report", {*WORDS, "kvmtools.findings", "kvmtools.survey", "kvmtools.show"})],
)
def test_a_room_loads_nothing_but_the_standard_library_and_the_words(room: str, others: set[str]) -> None:
    """Every module of it, in a fresh interpreter that has no site-packages at all."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if room_of(path) == room
    ]
    command = [sys.executable, "-S", "-E", "-c", LIST_MODULES, *names]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert set(names) <= loaded
    ours = {name for name in loaded if name.startswith("kvmtools")} - set(names)
    assert {name for name in ours if not name.startswith("kvmtools.show.")} == others
    assert {name.partition(".")[0] for name in loaded} - {"kvmtools"} <= sys.stdlib_module_names
