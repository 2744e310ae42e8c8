"""kvmtools beside the other tools that can do the same work, on the same cores: ``make bench-peers``."""
