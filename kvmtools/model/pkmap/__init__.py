"""The persistent and the local temporary mappings of highmem pages: slots, threads, invariants."""
