"""What a kernel leaves unused of the RAM that there is, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvmtools.errors import UsageError
from kvmtools.model.memory import ram
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import pfn_up
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Image, Range
from kvmtools.show.tables import size


@dataclass(frozen=True, slots=True)
class RamInUse:
    """Bytes of RAM up to ``max_pfn``; what lies at ``unused_from`` and above is not used, because of ``why``."""

    used: int
    unused_from: int | None
    why: str

    @property
    def unused(self) -> str:
        """What is not used, and why; empty if all is."""
        return "" if self.unused_from is None else f"none above {size(self.unused_from)} is used: {self.why}"

    def __str__(self) -> str:
        return f"{size(self.used)} of RAM" + (f" ({self.unused})" if self.unused else "")


def ram_in_use(prediction: Prediction) -> RamInUse:
    """What this kernel uses.

    :raises UsageError: if no kernel can have this configuration
    """
    max_pfn = prediction.layout.max_pfn
    used = prediction.ram.below(max_pfn)
    # PAE only widens what ram.usable() keeps.
    there = ram.usable(replace(prediction.configuration, pae=True))
    unused = [hole.start for r in there.ranges for hole in used.holes(r.start, r.end)]
    return RamInUse(
        used=sum(map(len, used.ranges)) * PAGE_SIZE,
        unused_from=unused[0] * PAGE_SIZE if unused else None,
        why=_why(prediction, max_pfn) if unused else "",
    )


def _why(prediction: Prediction, max_pfn: int) -> str:
    configuration, era = prediction.configuration, prediction.era
    reach = 36 if configuration.pae and era.highmem64g else 32
    if not configuration.highmem:
        return "no HIGHMEM"
    if max_pfn < min(prediction.ram.end_pfn, 1 << (reach - PAGE_SHIFT)):
        return "highmem="
    if not configuration.pae:
        return "no PAE"
    return "PAE reaches 36 bits" if era.highmem64g else f"{era.name} has no HIGHMEM64G"


def refuse_image_outside_ram(configuration: Configuration) -> None:
    """A kernel runs from RAM, and calls its image RAM whatever the firmware says: this asks the firmware.

    :raises UsageError: if the image does not lie in one range of RAM
    """
    sections = configuration.image.sections
    start, end = (sections[name] - configuration.page_offset for name in ("_text", "_end"))
    image = Range(start // PAGE_SIZE, pfn_up(end))
    found = ram.usable(replace(configuration, image=Image(0, {})))
    if any(r.start <= image.start and image.end <= r.end for r in found.ranges):
        return
    hint = f"it needs RAM from {size(start)} to {size(end)}"
    if not configuration.pae:
        hint += "; a kernel without PAE may forget a range of RAM that does not end below 4 GiB"
    raise UsageError("the kernel's image does not lie in RAM that this kernel uses", hint=hint)
