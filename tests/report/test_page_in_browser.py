"""The HTML page in a real browser: no complaint, every drawing there, light and dark, wide and narrow, by keyboard."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import LoadedPage, browser, needs_a_browser
from hostile_text import ALL
from surveys import broken, enormous, healthy, hostile

from kvmtools.report.page import to_html

pytestmark = needs_a_browser

SCRIPT = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
PAGES = {
    "healthy": healthy,
    "nopae": lambda: healthy("nopae"),
    "broken": broken,
    "hostile": lambda: hostile(ALL + SCRIPT),
    "enormous": enormous,
}
SHOTS = os.environ.get("KVMTOOLS_SCREENSHOTS")
"""A directory for pictures of what the tests saw, for a person."""

TEXTS = (
    "body",
    "#verdict",
    "a[href='#rules']",
    "#findings p",
    "#rules td",
    "#slots .s-used",
    "#slots .s-free",
    "#slots .s-unused",
    ".source",
    "caption",
    "button",
)
"""Where a person reads."""

Load = Callable[..., LoadedPage]


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in PAGES}
    for name, file in found.items():
        file.write_text(to_html(PAGES[name]()), encoding="utf-8")
    return found


@pytest.fixture
def load(running: Any, files: dict[str, Path]) -> Iterator[Load]:
    """``load("broken", scheme="dark", width=400)``; at the end nothing may have gone wrong in any."""
    loaded: list[LoadedPage] = []

    def one(name: str, **more: Any) -> LoadedPage:
        loaded.append(LoadedPage(running, files[name], **more))
        return loaded[-1]

    yield one
    for each in loaded:
        each.close()


@pytest.fixture(scope="module")
def wrong_slot() -> str:
    """The anchor of the slot of the broken guest in which something is found."""
    subjects = [finding.subject for finding in broken().result.findings]
    (slot,) = (subject.replace(" ", "-") for subject in subjects if subject.startswith("slot "))
    return slot


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(...)``, WCAG 2.1."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(page: Any, place: str) -> float:
    """Of a text to what is behind it."""
    colours = page.evaluate(
        """place => {
            const opaque = (e) => { let c; do { c = getComputedStyle(e).backgroundColor; e = e.parentElement; }
                while (e && /^rgba.*, 0\\)$/.test(c)); return c; };
            const found = document.querySelector(place);
            return [getComputedStyle(found).color, opaque(found)];
        }""",
        place,
    )
    brighter, darker = sorted(map(luminance, colours), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("name", PAGES)
def test_it_draws_without_a_complaint(load: Load, name: str) -> None:
    loaded = load(name)
    page = loaded.page
    assert page.title().startswith("kvmtools: ")
    assert page.locator("#memory-map svg path").count() > 3
    assert page.locator("#slots td").count() in (512, 1024)
    assert page.locator("script").count() == 2
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("document.querySelectorAll('#space-map svg rect').length > 5")
        wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window, "the page scrolls sideways"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for place in TEXTS:
                assert contrast(page, place) >= 4.5, (place, scheme)
            if SHOTS:
                page.screenshot(path=f"{SHOTS}/{name}-{scheme}-{width}.png", full_page=name != "enormous")


def test_the_colours_are_the_systems_until_the_button_is_pressed(load: Load) -> None:
    def ground(loaded: LoadedPage) -> float:
        return luminance(loaded.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = load("healthy"), load("healthy", scheme="dark")
    assert ground(light) > 0.9
    assert ground(dark) < 0.05
    for loaded, names in ((light, ("Dark", "Light")), (dark, ("Light", "Dark"))):
        before = ground(loaded)
        for name in names:
            assert loaded.says("#theme") == f"{name} colours"
            loaded.page.click("#theme")
        assert ground(loaded) == before
    light.page.click("#theme")
    assert ground(light) == ground(dark)


def test_the_tab_key_goes_through_the_page_and_shows_where_it_is(load: Load, wrong_slot: str) -> None:
    loaded = load("broken")
    met = []
    while True:
        loaded.press("Tab")
        if loaded.page.evaluate("document.activeElement === document.body"):
            break
        focus = loaded.page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e), name = e.getAttribute('href');
                return [e.id || name || e.textContent, s.outlineStyle, parseFloat(s.outlineWidth)]; }"""
        )
        met.append(focus[0])
        assert focus[1] != "none", focus
        assert focus[2] >= 1, focus
    assert met[0] == "#findings"  # past everything at once
    stops = ["theme", f"#{wrong_slot}", "space-map", "slot-0", "memory-map"]
    assert list(dict.fromkeys(place for place in met if place in stops)) == stops
    assert met.count("slot-0") == 1  # one stop for the whole grid


def test_the_slots_by_arrow_keys(load: Load, wrong_slot: str) -> None:
    loaded = load("broken")
    loaded.page.focus("#slot-0")
    loaded.press("ArrowUp", "ArrowLeft")
    assert loaded.focused() == "slot-0"
    for key, slot in (
        ("ArrowRight", 1), ("ArrowDown", 33), ("End", 63), ("Home", 32), ("Control+End", 511), ("ArrowDown", 511),
        ("ArrowRight", 511), ("ArrowUp", 479), ("Control+Home", 0),
    ):  # fmt: skip
        loaded.press(key)
        assert loaded.focused() == f"slot-{slot}", key
        assert loaded.says("#slot-says").startswith(f"slot {slot}, 0x")
    finding = str(loaded.page.get_attribute(f"#{wrong_slot} a", "href"))
    loaded.page.focus(f"#{wrong_slot}")
    loaded.press("Enter")
    assert f"#{loaded.focused()}" == finding
    assert loaded.page.url.endswith(finding)


def test_the_address_space_by_keys_and_by_buttons(load: Load) -> None:
    loaded = load("broken")
    everything = "0xc0000000 to 0x100000000, 1 GiB: "
    loaded.page.focus("#space-map")
    assert loaded.says("#space-says").startswith(everything)
    loaded.press("+")
    assert "512 MiB" in loaded.says("#space-says")
    loaded.press("ArrowUp")
    assert loaded.says("#space-says").startswith("0xd8000000 to 0xf8000000")
    loaded.press("ArrowDown", "-")
    assert loaded.says("#space-says").startswith(everything)
    loaded.press("ArrowDown")  # there is no further down
    assert loaded.says("#space-says").startswith(everything)
    for _ in range(40):
        loaded.press("+")
    assert "64 KiB" in loaded.says("#space-says")
    loaded.press("Home")
    assert loaded.says("#space-says").startswith(everything)
    loaded.page.click("[aria-label='Zoom to pkmap']")
    assert loaded.focused() == "space-map"
    assert loaded.says("#space-says").startswith("0xff580000 to 0xff880000, 3 MiB: ")
    assert loaded.page.locator("#space-map text", has_text="pkmap, 2 MiB").count() == 2  # guest and model
    loaded.page.click("[data-zoom=all]")
    assert loaded.says("#space-says").startswith(everything)


def test_the_memory_map_by_keys(load: Load) -> None:
    loaded = load("broken")
    loaded.page.focus("#memory-map")
    assert loaded.says("#memory-says").startswith("pfn 0x0 to 0x1, physical 0x0")
    loaded.press("ArrowRight", "ArrowDown")
    assert loaded.says("#memory-says").startswith("pfn 0x102 to 0x103, physical 0x102000, zone DMA: 2 free")
    loaded.press("PageDown", "PageUp", "End")
    assert loaded.says("#memory-says").startswith("pfn 0x1fe to 0x1ff,")
    loaded.press("Control+End")
    assert "zone HIGHMEM" in loaded.says("#memory-says")
    loaded.press("ArrowRight", "ArrowDown", "Control+Home", "ArrowLeft", "ArrowUp")
    assert loaded.says("#memory-says").startswith("pfn 0x0 to 0x1,")
    loaded.page.click("#memory-zones button >> text=HIGHMEM")
    assert loaded.focused() == "memory-map"
    assert "zone HIGHMEM" in loaded.says("#memory-says")


def test_every_link_of_a_finding_shows_its_place_and_leads_back(load: Load) -> None:
    loaded = load("broken")
    page = loaded.page
    links = page.locator(".links a")
    places = {"space": 0, "memory": 0, "slot": 0, "zone": 0, "boundary": 0}
    for number in range(links.count()):
        link = links.nth(number)
        href, label = link.get_attribute("href"), link.text_content()
        link.focus()
        loaded.press("Enter")
        page.wait_for_function("document.activeElement.tagName !== 'A'")
        kind = href[1:].partition("-")[0]
        places[kind] += 1
        if kind == "space":
            low, high = (int(word, 16) for word in re.findall(r"0x[0-9a-f]+", loaded.says("#space-says"))[:2])
            assert low <= int(label.split()[-1], 16) < high
            assert page.locator("#space-map a[href^='#finding-']").count() >= 1
        elif kind == "memory":
            assert loaded.focused() == "memory-map"
            assert "; finding " in loaded.says("#memory-says")
            loaded.press("Enter")
            assert loaded.focused().startswith("finding-")
        else:
            assert loaded.focused() == href[1:]
    assert all(places.values()), places
    marks = page.locator("#memory-map a")
    for number in range(marks.count()):
        href = marks.nth(number).get_attribute("href")
        marks.nth(number).focus()
        loaded.press("Enter")
        assert loaded.focused() == href[1:]


def test_a_hostile_guest_runs_nothing(load: Load) -> None:
    loaded = load("hostile")
    page = loaded.page
    assert page.title() != "owned"
    assert SCRIPT in loaded.says("#command-line")
    assert page.locator("img").count() == 0
    # What the script writes, too.
    page.locator("#space-map").focus()
    loaded.press("+", "-")
    page.locator("#slot-0").focus()
    assert SCRIPT in loaded.says("#slot-says") or "zone" not in loaded.says("#slot-says")
    # If the escaping failed, the policy would hold.
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = \"document.title = 'owned'\";"
        " document.body.append(s); }"
    )
    assert page.title() != "owned"
    assert any("Content Security Policy" in message for message in loaded.wrong)
    loaded.wrong.clear()


def test_without_its_script_it_can_be_read(running: Any, files: dict[str, Path]) -> None:
    context = running.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["broken"].as_uri())
    assert page.locator(".needs-script:visible").count() == 0
    assert page.locator("#theme").is_hidden()
    assert page.locator("#memory-map svg path").count() > 3
    assert page.locator("#boundaries tr").count() > 8
    assert page.locator(".finding").first.is_visible()
    context.close()
