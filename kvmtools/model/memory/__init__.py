"""RAM and zones: which page frames there are, whose they are, and the allocator of the boot."""
