"""The eras of the i386 kernel: what differs between kernels, one table, every cell with its source."""

from kvmtools.model.eras.era import Era, named, shown, source
from kvmtools.model.eras.table import NAMES

__all__ = ["NAMES", "Era", "named", "shown", "source"]
