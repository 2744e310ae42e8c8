"""The eras of the i386 kernel: what differs between kernels, one table, every cell with its source."""

from kvmtools.model.eras.columns import NAMES
from kvmtools.model.eras.era import COLUMNS, Era, named, shown, source

__all__ = ["COLUMNS", "NAMES", "Era", "named", "shown", "source"]
