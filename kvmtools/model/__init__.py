"""What an i386 kernel *ought to have* in its page tables, ``mem_map`` and pkmap: an executable specification.

Plain Python on the standard library, :mod:`kvmtools.records` and :mod:`kvmtools.errors`.  It shares no code
with the observer, so that their agreement proves something.  What differs between Linux 2.4 and 7.2 is one table,
:mod:`kvmtools.model.eras`; each module cites the kernel files that it follows.

Ask :func:`predict` about a configuration that was observed (:meth:`kvmtools.OpenKernel.configuration`), or about one
that :func:`configuration` makes up:

.. code-block:: python

   from kvmtools.model import configuration, predict

   print(hex(predict(configuration("2.4", memory=1 << 30)).layout.high_memory))

.. code-block:: text

   0xf8000000

* Mel Gorman, *Understanding the Linux Virtual Memory Manager*, chapter 10.1: the pkmap area and its counts
  0, 1, n.
* Andy Whitcroft and Christoph Lameter, linux-mm, 24–26 September 2006, "virtual mmap basics": why FLATMEM's
  map covers holes, and why its ends are aligned to the largest buddy block.
* Intel SDM volume 3A, chapter 4: 32-bit and PAE paging.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvmtools.model.eras import NAMES as ERAS
    from kvmtools.model.machine import configuration
    from kvmtools.model.prediction import Prediction, predict

__all__ = ["ERAS", "Prediction", "configuration", "predict"]


def __getattr__(name: str) -> object:
    """Load what is asked for: most callers want one part of the model, and each costs its milliseconds."""
    match name:
        case "ERAS":
            from kvmtools.model.eras import NAMES

            return NAMES
        case "configuration":
            from kvmtools.model.machine import configuration

            return configuration
        case "Prediction" | "predict":
            from kvmtools.model import prediction

            return getattr(prediction, name)
    raise AttributeError(f"module 'kvmtools.model' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
