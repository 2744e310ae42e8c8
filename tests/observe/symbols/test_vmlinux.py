"""Facts of a small program that has what matters in a kernel: anonymous unions, statics, enumerations."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmtools.attach.elf import ElfFile
from kvmtools.errors import SymbolsError
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.symbols import facts_cache
from kvmtools.observe.symbols.debuginfo import DebugInfo
from kvmtools.observe.symbols.vmlinux import Vmlinux
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
def path(compiled: Compile) -> Path:
    return compiled(SOURCE)


@pytest.fixture
def vmlinux(path: Path) -> Vmlinux:
    return Vmlinux.load(path)


def build_id_of(path: Path) -> str:
    notes = subprocess.run(["readelf", "-n", path], check=True, capture_output=True, text=True).stdout
    return notes.split("Build ID: ")[1].split()[0]


def address_of(path: Path, name: str) -> int:
    symbols = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout
    return next(int(line.split()[0], 16) for line in symbols.splitlines() if line.split()[-1] == name)


def test_the_build_id_is_what_readelf_says(vmlinux: Vmlinux, path: Path) -> None:
    assert vmlinux.build_id == build_id_of(path)


def test_symbols_stand_where_nm_says(vmlinux: Vmlinux, path: Path) -> None:
    assert vmlinux.symbol("mem_map") == address_of(path, "mem_map")
    assert vmlinux.has_symbol("first_pages")
    assert not vmlinux.has_symbol("page_address_pool")


def test_a_static_of_a_function_is_found_by_its_plain_name(vmlinux: Vmlinux, path: Path) -> None:
    symbols = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in symbols.splitlines() if "last_pkmap_nr" in line]
    assert vmlinux.symbol_like("last_pkmap_nr") == int(line.split()[0], 16)


def test_two_statics_of_one_name_are_not_guessed_between(vmlinux: Vmlinux) -> None:
    with pytest.raises(SymbolsError, match="has no static variable ambiguous"):
        vmlinux.symbol_like("ambiguous")


def test_the_statics_of_clang(compiled: Compile) -> None:
    """clang names them ``function.variable``; an asm label makes gcc do the same."""
    label = 'static unsigned last_pkmap_nr asm("next_number.last_pkmap_nr");'
    vmlinux = Vmlinux.load(compiled(SOURCE.replace("static unsigned last_pkmap_nr;", label)))
    assert vmlinux.symbol_like("last_pkmap_nr") == vmlinux.symbol("next_number.last_pkmap_nr")
    with pytest.raises(SymbolsError, match="has no static variable pkmap_nr"):
        vmlinux.symbol_like("pkmap_nr")


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
def test_offsets_reach_into_anonymous_members_and_arrays(vmlinux: Vmlinux, member: str, offset: int) -> None:
    assert vmlinux.offset("struct page", member) == offset


def test_sizes_and_lengths(vmlinux: Vmlinux) -> None:
    assert vmlinux.sizeof("struct page") == 32
    assert vmlinux.sizeof("struct page", "lru.prev") == 4
    assert vmlinux.sizeof("struct page", "lru") == 8
    assert vmlinux.array_length("struct page", "tail") == 12
    assert vmlinux.array_length("typeof(first_pages)") == 3
    assert vmlinux.sizeof("typeof(mem_map)") == 4
    assert vmlinux.architecture is I386_PAE


def test_enumerators(vmlinux: Vmlinux) -> None:
    assert vmlinux.enumerators("zone_type") == {"ZONE_NORMAL": 0, "ZONE_HIGHMEM": 5, "__MAX_NR_ZONES": 6}
    assert vmlinux.constant("ANONYMOUS") == 7
    assert not vmlinux.has_constant("ZONE_DMA32")


def test_what_is_absent_is_absent(vmlinux: Vmlinux) -> None:
    assert not vmlinux.has_member("struct page", "memcg_data")
    assert not vmlinux.has_member("struct folio", "flags")
    assert not vmlinux.has_type("struct nowhere")
    assert not vmlinux.has_type("typeof(nothing)")
    with pytest.raises(SymbolsError, match=r"has no array struct page\.flags"):
        vmlinux.array_length("struct page", "flags")
    with pytest.raises(SymbolsError, match="enum fixed_addresses"):
        vmlinux.enumerators("fixed_addresses")


def test_the_banner_comes_out_of_the_file(vmlinux: Vmlinux) -> None:
    assert vmlinux.banner == b"Linux version 6.1.0-test (gcc)\n"


def test_the_second_time_drgn_is_not_even_imported(vmlinux: Vmlinux, path: Path) -> None:
    questions = (
        "(facts.sizeof('struct page'), facts.has_member('struct page', 'memcg_data'), facts.banner,"
        " facts.architecture.name, facts.enumerators('zone_type'), facts.symbol_like('last_pkmap_nr'))"
    )
    expected = eval(questions, {"facts": vmlinux})
    vmlinux.believe()
    vmlinux.save()
    program = (
        "import sys; from pathlib import Path; from kvmtools.observe.symbols.vmlinux import Vmlinux;"
        f"facts = Vmlinux.load(Path({str(path)!r})); print({questions}, 'drgn' in sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == f"{expected} False"


def test_a_damaged_cache_is_rebuilt(vmlinux: Vmlinux, path: Path) -> None:
    vmlinux.sizeof("struct page")
    vmlinux.believe()
    vmlinux.save()
    (file,) = (cache_dir() / "facts").glob("*.json")
    whole = json.loads(file.read_text())
    wrong = {"sizeof struct page": 1}
    others = (
        {**whole, "answers": wrong, "build_id": "other"},
        {**whole, "answers": wrong, "asked_by": "other"},
        {},
    )
    for damage in ("", "{", "[]", *map(json.dumps, others)):
        file.write_text(damage)
        again = Vmlinux.load(path)
        assert again.sizeof("struct page") == 32
    again.believe()
    again.save()
    assert json.loads(file.read_text())["answers"]["sizeof struct page"] == 32


def test_a_cache_that_cannot_be_written_is_passed_over(vmlinux: Vmlinux, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert vmlinux.sizeof("struct page") == 32
    vmlinux.believe()
    vmlinux.save()


def test_what_two_runs_learn_is_added(vmlinux: Vmlinux, path: Path) -> None:
    other = Vmlinux.load(path)
    for each, type_name in ((vmlinux, "struct page"), (other, "pte_t")):
        each.sizeof(type_name)
        each.believe()
        each.save()
    (file,) = (cache_dir() / "facts").glob("*.json")
    assert json.loads(file.read_text())["answers"] == {"sizeof pte_t": 8, "sizeof struct page": 32}


def test_of_a_file_that_no_guest_runs_nothing_is_kept(vmlinux: Vmlinux, path: Path) -> None:
    assert not vmlinux.has_symbol("page_address_pool")
    vmlinux.save()
    program = (
        "import sys; from pathlib import Path; from kvmtools.observe.symbols.vmlinux import Vmlinux;"
        "facts = Vmlinux.load(Path(sys.argv[1])); facts.sizeof('struct page'); sys.argv[2:] and facts.believe()"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True)
    assert not list(cache_dir().rglob("*.json"))
    subprocess.run([sys.executable, "-c", program, path, "believe"], check=True)
    assert len(list(cache_dir().rglob("*.json"))) == 1


def test_what_an_older_kvmtools_found_absent_is_asked_again(
    vmlinux: Vmlinux, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(DebugInfo, "sizeof", lambda *_about: None)
        older.setattr(facts_cache, "asked_by", lambda: "an older kvmtools")
        assert not vmlinux.has_type("struct page")
        vmlinux.believe()
        vmlinux.save()
        assert facts_cache.read(vmlinux.build_id) == {"sizeof struct page": None}
    assert Vmlinux.load(path).has_type("struct page")


def test_without_a_word_of_who_asks_nothing_is_kept(
    vmlinux: Vmlinux, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a kvmtools that is being installed anew while it runs: it goes on all the same."""
    vmlinux.sizeof("struct page")
    vmlinux.believe()
    vmlinux.save()

    def unreadable() -> str:
        raise PermissionError(13, "Permission denied", "debuginfo.py")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(facts_cache, "asked_by", unreadable)
        again = Vmlinux.load(path)
        assert again.sizeof("pte_t") == 8
        again.believe()
        again.save()
    assert facts_cache.read(vmlinux.build_id) == {"sizeof struct page": 32}


def test_recorded_facts_answer_what_was_asked_and_say_what_was_not(vmlinux: Vmlinux) -> None:
    vmlinux.sizeof("struct page")
    vmlinux.has_symbol("page_address_pool")
    recorded = Vmlinux.from_json(json.loads(json.dumps(vmlinux.to_json())))
    assert recorded.build_id == vmlinux.build_id
    assert recorded.sizeof("struct page") == 32
    assert not recorded.has_symbol("page_address_pool")
    assert recorded.path is None
    with pytest.raises(SymbolsError, match="do not say: symbol mem_map"):
        recorded.symbol("mem_map")
    with pytest.raises(SymbolsError, match="kvmtools-facts/1"):
        Vmlinux.from_json({"schema": "something else"})


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
    }
    for reason, path in refused.items():
        with pytest.raises(SymbolsError, match=reason) as caught:
            Vmlinux.load(path)
        assert caught.value.hint


def test_what_has_no_symbols_is_refused_when_it_is_asked(path: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    whole = bytearray(path.read_bytes())
    whole[48:52] = bytes(4)  # e_shnum, e_shstrndx: no sections at all
    bare.write_bytes(whole)
    vmlinux = Vmlinux.load(bare)
    vmlinux.believe()
    with pytest.raises(SymbolsError, match=rf"no DWARF in {bare} \(build id {vmlinux.build_id}\)"):
        vmlinux.has_symbol("mem_map")
    vmlinux.save()
    assert not list(cache_dir().rglob("*.json"))


@pytest.mark.parametrize(("version", "level"), [(4, "NOTSET"), (5, "NOTSET"), (5, "CRITICAL")])
def test_split_dwarf_is_whole_or_refused(
    compiled: Compile, caplog: pytest.LogCaptureFixture, version: int, level: str
) -> None:
    path = compiled(SOURCE, "-m32", f"-gdwarf-{version}", "-gsplit-dwarf", "-Wl,--build-id")
    caplog.set_level(level, "drgn")
    (there,) = path.parent.glob("*.dwo")
    away = there.with_suffix(".away")
    there.rename(away)
    vmlinux = Vmlinux.load(path)
    vmlinux.believe()
    for _ in range(2):
        with pytest.raises(
            SymbolsError, match=rf"CONFIG_DEBUG_INFO_SPLIT\), and drgn misses 1 of them: {there.name} \("
        ):
            vmlinux.has_type("struct page")
    there.write_text("something else")
    with pytest.raises(SymbolsError, match="CONFIG_DEBUG_INFO_SPLIT"):
        vmlinux.has_type("struct page")
    vmlinux.save()
    assert not list(cache_dir().rglob("*.json"))
    away.rename(there)
    assert vmlinux.sizeof("struct page") == 32
    assert caplog.messages == []


def ask_everything(path: Path) -> None:
    vmlinux = Vmlinux.load(path)
    vmlinux.has_symbol("mem_map")
    for type_name, member in (("struct page", "order"), ("typeof(first_pages)", ""), ("pte_t", "pte")):
        vmlinux.has_type(type_name)
        vmlinux.has_member(type_name, member)
    vmlinux.has_constant("ANONYMOUS")
    vmlinux.enumerators("zone_type")
    vmlinux.symbol_like("last_pkmap_nr")
    vmlinux.array_length("struct page", "tail")


def test_damaged_dwarf_is_answered_or_refused(path: Path, tmp_path: Path) -> None:
    """Wherever it is: no other exception than ours, with the file's name."""
    whole, damaged = path.read_bytes(), tmp_path / "damaged"
    with path.open("rb") as file:
        elf = ElfFile(file.fileno())
        sections = [elf.section(name) for name in (".debug_info", ".debug_abbrev", ".debug_str", ".symtab")]
    refused = 0
    choose = random.Random(7)
    for section in sections * 10:
        assert section is not None
        data = bytearray(whole)
        for _ in range(choose.choice((1, 5, 50))):
            data[section.offset + choose.randrange(section.size)] = choose.randrange(256)
        damaged.write_bytes(data)
        try:
            ask_everything(damaged)
        except SymbolsError as error:
            refused += str(damaged) in error.message
    assert refused > 5


def test_without_a_build_id_the_content_is_the_key(compiled: Compile) -> None:
    first = Vmlinux.load(compiled(SOURCE, "-m32", "-g", "-Wl,--build-id=none"))
    other = Vmlinux.load(compiled(SOURCE + "int more;", "-m32", "-g", "-Wl,--build-id=none"))
    assert first.build_id.startswith("sha256-")
    assert first.build_id != other.build_id
