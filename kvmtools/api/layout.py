"""The kernel's address space: the guest's boundaries beside the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmtools.errors import Unobserved, UsageError
from kvmtools.records import Range
from kvmtools.show.drawing import Boundary
from kvmtools.show.layout import BELOW, LIMITS, layout_text
from kvmtools.show.style import uncoloured

if TYPE_CHECKING:
    from kvmtools.api.session import Session
    from kvmtools.records import Configuration, Image, Layout, PredictedLayout

_IMAGE = (
    ("text", "_text", "_etext"),
    ("rodata", "__start_rodata", "__end_rodata"),
    ("data", "_sdata", "_edata"),
    ("init (freed)", "__init_begin", "__init_end"),
    ("bss", "__bss_start", "__bss_stop"),
    ("brk", "__brk_base", "__brk_limit"),
)


@dataclass(frozen=True, repr=False)
class KernelLayout:
    """Boundaries of the address space and of memory; prints as ``kvmtools layout`` does.

    Each has a ``name`` (a field of :class:`kvmtools.records.Layout`), what the guest shows (``live``), what the model
    predicts for its configuration (``model``), ``None`` where one does not say, and whether they agree (``agrees``).
    """

    boundaries: tuple[Boundary, ...]
    """Virtual addresses."""
    limits: tuple[Boundary, ...]
    """pfns (``max_low_pfn``, ...), and ``last_pkmap``, a number of slots."""
    slide: int
    """What KASLR added to the image's addresses, in bytes."""
    image: dict[str, Range]
    """Sections of the kernel image, virtual addresses."""
    era: str | None
    """The era that the model took the kernel for; ``None`` if it cannot predict it."""
    refusal: str = ""
    """Why it cannot."""

    def __getitem__(self, name: str) -> Boundary:
        """A boundary or a limit by its name.

        :raises KeyError: if neither side knows one of that name
        """
        for each in (*self.boundaries, *self.limits):
            if each.name == name:
                return each
        raise KeyError(name)

    def __repr__(self) -> str:
        return uncoloured(layout_text(self))


def kernel_layout(session: Session) -> KernelLayout:
    """What the guest shows now, and what the model says of its configuration."""
    from kvmtools.observe.boot.configuration import observe_configuration
    from kvmtools.observe.space.layout import observe_layout

    kernel = session.kernel
    return layout_of(*session.held(lambda: (observe_layout(kernel), observe_configuration(kernel))))


def layout_of(live: Layout, configuration: Configuration) -> KernelLayout:
    """What the guest showed, beside what the model says of its configuration."""
    model, era, refusal = _predicted(configuration)
    return KernelLayout(
        boundaries=_both(live, model, tuple(BELOW)),
        limits=_both(live, model, LIMITS),
        slide=configuration.image.slide,
        image=_sections(configuration.image),
        era=era,
        refusal=refusal,
    )


def _predicted(configuration: Configuration) -> tuple[PredictedLayout | None, str | None, str]:
    """The model's layout and era, or why it has none."""
    from kvmtools.model.prediction import Prediction

    try:
        prediction = Prediction(configuration)
        return prediction.layout, prediction.era.name, ""
    except (UsageError, Unobserved) as refusal:  # of the guest's configuration, not of the person's request
        return None, None, str(refusal)


def _both(live: Layout, model: PredictedLayout | None, names: tuple[str, ...]) -> tuple[Boundary, ...]:
    """Those of the fields that one side knows, in the order given."""
    ought = {} if model is None else dict(model.items())
    found = (Boundary(name, getattr(live, name, None), ought.get(name)) for name in names)
    return tuple(edge for edge in found if edge.live is not None or edge.model is not None)


def _sections(image: Image) -> dict[str, Range]:
    known = image.sections
    return {
        name: Range(known[first], known[last])
        for name, first, last in _IMAGE
        if first in known and last in known
    }
