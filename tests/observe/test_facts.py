"""Facts of a small program that has what matters in a kernel: anonymous unions, statics, enumerations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmtools.errors import SymbolsError
from kvmtools.observe.facts import Facts
from kvmtools.paths import cache_dir

SOURCE = r"""
enum zone_type { ZONE_NORMAL, ZONE_HIGHMEM = 5, __MAX_NR_ZONES };
enum { ANONYMOUS = 7 };
typedef struct { unsigned long long pte; } pte_t;
struct nowhere;
struct page {
    unsigned long flags;
    union {
        struct { void *next, *prev; } lru;
        struct { int order; void *mapping; };
    };
    union { int _mapcount; unsigned page_type; };
    struct { int counter; } _refcount;
    unsigned char tail[12];
};
struct page *mem_map;
static volatile struct page first_pages[3];
enum zone_type zone = ZONE_HIGHMEM;
int anonymous = ANONYMOUS;
pte_t entry;
const char linux_banner[] = "Linux version 6.1.0-test (gcc)\n";
static int next_number(void) { static unsigned last_pkmap_nr; return ++last_pkmap_nr; }
static int one(void) { static int ambiguous; return ++ambiguous; }
static int two(void) { static int ambiguous; return ++ambiguous; }
int _start(void) { return next_number() + one() + two() + first_pages[1]._mapcount + linux_banner[0]; }
"""

Compile = Callable[..., Path]


@pytest.fixture
def vmlinux(compiled: Compile) -> Path:
    return compiled(SOURCE)


@pytest.fixture
def facts(vmlinux: Path) -> Facts:
    return Facts.load(vmlinux)


def build_id_of(vmlinux: Path) -> str:
    notes = subprocess.run(["readelf", "-n", vmlinux], check=True, capture_output=True, text=True).stdout
    return notes.split("Build ID: ")[1].split()[0]


def address_of(vmlinux: Path, name: str) -> int:
    symbols = subprocess.run(["nm", vmlinux], check=True, capture_output=True, text=True).stdout
    return next(int(line.split()[0], 16) for line in symbols.splitlines() if line.split()[-1] == name)


def test_the_build_id_is_what_readelf_says(facts: Facts, vmlinux: Path) -> None:
    assert facts.build_id == build_id_of(vmlinux)


def test_symbols_stand_where_nm_says(facts: Facts, vmlinux: Path) -> None:
    assert facts.symbol("mem_map") == address_of(vmlinux, "mem_map")
    assert facts.has_symbol("first_pages")
    assert not facts.has_symbol("page_address_pool")


def test_a_static_of_a_function_is_found_by_its_plain_name(facts: Facts, vmlinux: Path) -> None:
    symbols = subprocess.run(["nm", vmlinux], check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in symbols.splitlines() if "last_pkmap_nr" in line]
    assert facts.symbol_like("last_pkmap_nr") == int(line.split()[0], 16)


def test_two_statics_of_one_name_are_not_guessed_between(facts: Facts) -> None:
    with pytest.raises(SymbolsError, match="symbol_like ambiguous"):
        facts.symbol_like("ambiguous")


def test_the_statics_of_clang(compiled: Compile) -> None:
    """clang names them ``function.variable``; an asm label makes gcc do the same."""
    label = 'static unsigned last_pkmap_nr asm("next_number.last_pkmap_nr");'
    facts = Facts.load(compiled(SOURCE.replace("static unsigned last_pkmap_nr;", label)))
    assert facts.symbol_like("last_pkmap_nr") == facts.symbol("next_number.last_pkmap_nr")
    with pytest.raises(SymbolsError, match="symbol_like pkmap_nr"):
        facts.symbol_like("pkmap_nr")


@pytest.mark.parametrize(
    ("member", "offset"),
    [
        ("flags", 0),
        ("lru", 4),
        ("lru.prev", 8),
        ("order", 4),
        ("mapping", 8),
        ("page_type", 12),
        ("_refcount.counter", 16),
        ("tail[3]", 23),
    ],
)
def test_offsets_reach_into_anonymous_members_and_arrays(facts: Facts, member: str, offset: int) -> None:
    assert facts.offset("struct page", member) == offset


def test_sizes_and_lengths(facts: Facts) -> None:
    assert facts.sizeof("struct page") == 32
    assert facts.sizeof("struct page", "lru.prev") == 4
    assert facts.sizeof("struct page", "lru") == 8
    assert facts.array_length("struct page", "tail") == 12
    assert facts.array_length("typeof(first_pages)") == 3
    assert facts.sizeof("typeof(mem_map)") == 4
    assert facts.pae


def test_enumerators(facts: Facts) -> None:
    assert facts.enumerators("zone_type") == {"ZONE_NORMAL": 0, "ZONE_HIGHMEM": 5, "__MAX_NR_ZONES": 6}
    assert facts.constant("ANONYMOUS") == 7
    assert not facts.has_constant("ZONE_DMA32")


def test_what_is_absent_is_absent(facts: Facts) -> None:
    assert not facts.has_member("struct page", "memcg_data")
    assert not facts.has_member("struct folio", "flags")
    assert not facts.has_type("struct nowhere")
    assert not facts.has_type("typeof(nothing)")
    with pytest.raises(SymbolsError, match="array_length struct page flags"):
        facts.array_length("struct page", "flags")
    with pytest.raises(SymbolsError, match="enum fixed_addresses"):
        facts.enumerators("fixed_addresses")


def test_the_banner_comes_out_of_the_file(facts: Facts) -> None:
    assert facts.banner == b"Linux version 6.1.0-test (gcc)\n"


def test_the_second_time_drgn_is_not_even_imported(facts: Facts, vmlinux: Path) -> None:
    questions = (
        "(facts.sizeof('struct page'), facts.has_member('struct page', 'memcg_data'), facts.banner,"
        " facts.pae, facts.enumerators('zone_type'), facts.symbol_like('last_pkmap_nr'))"
    )
    expected = eval(questions, {"facts": facts})
    facts.save()
    program = (
        "import sys; from pathlib import Path; from kvmtools.observe.facts import Facts;"
        f"facts = Facts.load(Path({str(vmlinux)!r})); print({questions}, 'drgn' in sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == f"{expected} False"


def test_a_damaged_cache_is_rebuilt(facts: Facts, vmlinux: Path) -> None:
    facts.sizeof("struct page")
    facts.save()
    (file,) = (cache_dir() / "facts").glob("*.json")
    for damage in (b"", b"{", b"[]", b'{"schema": "kvmtools-facts/1", "build_id": "other", "answers": {}}'):
        file.write_bytes(damage)
        again = Facts.load(vmlinux)
        assert again.sizeof("struct page") == 32
    again.save()
    assert json.loads(file.read_text())["answers"]["sizeof struct page"] == 32


def test_a_cache_that_cannot_be_written_is_passed_over(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert facts.sizeof("struct page") == 32
    facts.save()


def test_recorded_facts_answer_what_was_asked_and_say_what_was_not(facts: Facts) -> None:
    facts.sizeof("struct page")
    facts.has_symbol("page_address_pool")
    recorded = Facts.from_json(json.loads(json.dumps(facts.to_json())))
    assert recorded.build_id == facts.build_id
    assert recorded.sizeof("struct page") == 32
    assert not recorded.has_symbol("page_address_pool")
    assert recorded.vmlinux is None
    with pytest.raises(SymbolsError, match="do not say: symbol mem_map"):
        recorded.symbol("mem_map")
    with pytest.raises(SymbolsError, match="kvmtools-facts/1"):
        Facts.from_json({"schema": "something else"})


def test_what_is_no_vmlinux_is_refused(compiled: Compile, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no ELF at all, and longer than a header would be " * 4)
    cut = tmp_path / "cut"
    cut.write_bytes(compiled(SOURCE).read_bytes()[:40])
    refused = {
        "No such file": tmp_path / "missing",
        "is not an ELF file": text,
        "truncated": cut,
        "is for x86_64, not i386": compiled(SOURCE, "-m64", "-g"),
        "has no DWARF": compiled(SOURCE, "-m32"),
    }
    for reason, path in refused.items():
        with pytest.raises(SymbolsError, match=reason) as caught:
            Facts.load(path)
        assert caught.value.hint


def test_without_a_build_id_the_content_is_the_key(compiled: Compile) -> None:
    first = Facts.load(compiled(SOURCE, "-m32", "-g", "-Wl,--build-id=none"))
    other = Facts.load(compiled(SOURCE + "int more;", "-m32", "-g", "-Wl,--build-id=none"))
    assert first.build_id.startswith("sha256-")
    assert first.build_id != other.build_id
