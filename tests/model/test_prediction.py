from __future__ import annotations

from collections.abc import Callable

from layouts import edges

from kvmtools import model
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, Range

Configure = Callable[..., Configuration]


def test_each_part_is_worked_out_once(configure: Configure) -> None:
    prediction = Prediction(configure(kmap_fixed_addresses=Range(4, 20)))
    for name in ("ram", "layout", "zones", "form", "expectations", "memmap", "pkmap", "kmap_local"):
        assert getattr(prediction, name) is getattr(prediction, name)


def test_the_parts_are_of_one_kernel(configure: Configure) -> None:
    prediction = Prediction(configure(pae=False, nr_cpus=4))
    assert prediction.form.name == "non-PAE"
    assert prediction.zones[1].end_pfn == prediction.layout.max_low_pfn
    assert prediction.memmap.max_mapnr == prediction.layout.max_mapnr
    assert prediction.pkmap is not None
    assert prediction.pkmap.base == edges(prediction.layout).pkmap_base


def test_the_room_has_one_way_in() -> None:
    told = model.configuration("2.4", memory=1 << 30)
    prediction = model.predict(told)
    assert isinstance(prediction, model.Prediction)
    assert prediction.configuration == told
    assert prediction.era.name in model.ERAS
    assert prediction.layout.high_memory == 0xF800_0000


def test_the_form_is_the_processors(configure: Configure) -> None:
    strict = Prediction(configure(nx=False, physical_bits=36)).form.levels[-1]
    assert strict.leaf_reserved == (1 << 64) - (1 << 36)
    loose = Prediction(configure(pae=False, pse=False)).form.levels[0]
    assert loose.leaf == 0
