"""All that the model has to say about one kernel, each part worked out when it is first asked for."""

from __future__ import annotations

from functools import cached_property

from kvmtools.model import eras
from kvmtools.model.eras import Era
from kvmtools.model.memory import ram, zones
from kvmtools.model.memory.ram import Ram
from kvmtools.model.pages import free_head, memmap
from kvmtools.model.pages.free_head import FreeHead
from kvmtools.model.pages.memmap import ExpectedMemMap
from kvmtools.model.paging import walk as model_walk
from kvmtools.model.paging.walk import PagingForm
from kvmtools.model.pkmap import area, kmap_local
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.kmap_local import KmapFixmap
from kvmtools.model.space import kernel_map, layout
from kvmtools.records import Configuration, Expectation, Leaf, PredictedLayout, ZoneSpan


class Prediction:
    """What a kernel of this configuration ought to have.

    :raises UsageError: (from any part) if no kernel can have this configuration
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @cached_property
    def ram(self) -> Ram:
        """Usable RAM, in pfns."""
        return ram.usable(self.configuration)

    @cached_property
    def era(self) -> Era:
        """The era whose formulas hold, by what the kernel shows."""
        return eras.shown(self.configuration.marks)

    @cached_property
    def layout(self) -> PredictedLayout:
        """The boundaries of the address space and of memory."""
        return layout.predict(self.configuration, self.ram)

    @cached_property
    def node(self) -> Ram:
        """What zones are made of; the eras differ on holes and on what is beyond reach."""
        return zones.node(self.configuration, self.layout, self.ram)

    @cached_property
    def registered(self) -> Ram:
        """What the kernel's memory management is told of RAM; SPARSEMEM's sections hold some of it."""
        return zones.registered(self.configuration, self.layout, self.ram)

    @cached_property
    def zones(self) -> tuple[ZoneSpan, ...]:
        """One span per zone, in the order of ``enum zone_type``, node by node."""
        return zones.spans(self.configuration, self.layout, self.node)

    def present(self, span: ZoneSpan) -> int:
        """``present_pages`` of a zone."""
        return zones.present(span, self.node)

    @cached_property
    def form(self) -> PagingForm:
        """How the processor reads page tables; for :func:`kvmtools.model.paging.walk.walk`."""
        return model_walk.form_of(self.configuration)

    @cached_property
    def expectations(self) -> tuple[Expectation, ...]:
        """The kernel half of the page tables, without gap or overlap."""
        return kernel_map.expectations(self.configuration, self.layout, self.ram)

    @property
    def unmaps_free_pages(self) -> bool:
        """Whether a page of lowmem may be missing from the direct map because it is free."""
        return kernel_map.unmaps_free_pages(self.configuration)

    def large_leaf_fault(self, leaf: Leaf) -> str:
        """Why a large leaf may not be where it is; empty if it may."""
        return kernel_map.large_leaf_fault(self.configuration, self.layout, self.ram, leaf)

    @cached_property
    def free_head(self) -> FreeHead:
        """The first page of a free block."""
        return free_head.free_head(self.configuration)

    @cached_property
    def memmap(self) -> ExpectedMemMap:
        """``mem_map``: valid pfns, their zones, what holes hold."""
        return memmap.predict(
            self.configuration, self.layout, self.ram, self.registered, self.node, self.zones
        )

    @cached_property
    def pkmap(self) -> PkmapArea | None:
        """The pkmap area and ``kmap_prot``; ``None`` without CONFIG_HIGHMEM."""
        return area.area(self.configuration, self.layout)

    @cached_property
    def kmap_local(self) -> KmapFixmap | None:
        """The slots of ``kmap_local_page()``; ``None`` if the kernel has none."""
        return kmap_local.kmap_fixmap(self.configuration)


def predict(configuration: Configuration) -> Prediction:
    """All that the model says about a kernel of this configuration, each part worked out when it is asked for.

    :raises UsageError: (from any part) if no kernel can have this configuration
    """
    return Prediction(configuration)
