"""Where ``page->flags`` keep zone, node and section: the model's word, for the pages as they were observed.

Nothing in a guest stores these places.  If the model has one of them wrong, the rules about zones, nodes and sections
find numbers there that no page can have.
"""

from __future__ import annotations

from kvmtools.model.pages.flags_layout import FlagsLayout, flags_layout
from kvmtools.observe.pages.memmap import MemMap
from kvmtools.observe.pages.page_flags import Field, FlagLayout
from kvmtools.observe.partial import exchanged, known
from kvmtools.records import Configuration

_FLAGS = "page->flags"


def with_fields(memmap: MemMap, configuration: Configuration) -> MemMap:
    """``memmap``, told where its flags keep zone, node and section; who asks for one that cannot be told learns why."""
    return exchanged(memmap, layout=layout_with_fields(memmap.layout, configuration))


def layout_with_fields(layout: FlagLayout, configuration: Configuration) -> FlagLayout:
    """``layout`` with the places of zone, node and section."""

    def fields() -> FlagsLayout:
        return flags_layout(configuration)

    return exchanged(
        layout,
        zone=known(lambda: Field(fields().zone_shift, fields().zone_width), _FLAGS),
        node=known(lambda: Field(fields().zone_shift + fields().zone_width, fields().node_width), _FLAGS),
        section=known(lambda: Field(fields().section_shift, fields().section_width), _FLAGS),
    )
