"""``layout``: the model beside the live kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kvmtools.records import Image, Layout

Invoke = Callable[..., Any]
MODEL = Layout(
    page_offset=0xC000_0000,
    high_memory=0xC100_0000,
    vmalloc_start=0xC180_0000,
    vmalloc_end=0xFF5F_E000,
    pkmap_base=0xFF40_0000,
    ldt_base=0xFF80_0000,
    ldt_end=0xFFA0_0000,
    cpu_entry_area_base=0xFFA0_0000,
    fixaddr_start=0xFFFE_B000,
    fixaddr_top=0xFFFF_F000,
    max_low_pfn=0x1000,
)


@pytest.fixture(autouse=True)
def model(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The live layout is the conftest's; the model differs in pkmap_base and knows ldt_end and max_low_pfn."""
    image = Image(0x40_0000, {"_text": 0xC140_0000, "_etext": 0xC180_0000})
    predicted = SimpleNamespace(layout=MODEL, era=SimpleNamespace(name="6.1"))
    monkeypatch.setattr(
        "kvmtools.observe.boot.configuration.observe_configuration",
        lambda _kernel: SimpleNamespace(image=image),
    )
    monkeypatch.setattr("kvmtools.model.prediction.Prediction", lambda _configuration: predicted)
    return predicted


def test_the_drawing(invoke: Invoke) -> None:
    text = invoke("layout").out
    lines = text.splitlines()
    assert lines[0] == "fffff000  ┬── fixaddr_top            = model"
    assert "ff600000  ┼── pkmap_base             ≠ model: ff400000" in lines
    assert "   ?      ┼── ldt_end                ? model: ffa00000" in lines
    assert "00000000  ┴──" in lines
    addresses = [int(line[:8], 16) for line in lines if line[:1] in "cf0" and "┼" in line]
    assert addresses == sorted(addresses, reverse=True)
    assert "direct map" in text
    assert "16 MiB" in text
    assert "moved by 0x400000" in text


def test_as_json(invoke: Invoke) -> None:
    document = json.loads(invoke("layout", "--format", "json").out)
    assert document["era"] == "6.1"
    boundaries = {edge["name"]: edge for edge in document["boundaries"]}
    assert boundaries["pkmap_base"] == {
        "name": "pkmap_base",
        "live": "0xff600000",
        "model": "0xff400000",
        "agrees": False,
        "below": "(guard)",
    }
    assert boundaries["ldt_end"]["agrees"] is None
    assert boundaries["high_memory"]["agrees"] is True
    assert {"name": "max_low_pfn", "live": None, "model": 4096, "agrees": None} in document["limits"]
    assert document["image"]["sections"]["text"]["size_bytes"] == 4 << 20


def test_a_kernel_without_pkmap(invoke: Invoke, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live = replace(MODEL, pkmap_base=None)
    model.layout = live
    monkeypatch.setattr("kvmtools.observe.space.layout.observe_layout", lambda _kernel: live)
    text = invoke("layout").out
    assert "pkmap" not in text
    assert "LDT" in text
