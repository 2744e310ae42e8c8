"""Where the linear map ends, by what the guest says."""

from __future__ import annotations

import pytest
from lesser_kernel import without
from recorded_guest import load

from kvmtools.observe.kernel import with_lowmem_end


@pytest.mark.parametrize("guest", ["pae", "nopae"])
@pytest.mark.parametrize("name", ["symbol high_memory", "sizeof typeof(high_memory)", "symbol max_low_pfn"])
def test_either_of_two_variables_says_where_the_linear_map_ends(guest: str, name: str) -> None:
    recorded = load(guest)
    assert with_lowmem_end(without(recorded, name)).lowmem_end == recorded.kernel.lowmem_end
