"""``python -m kvmtools``."""

from kvmtools.cli import main

main()
