"""Temporary mappings of highmem pages: pkmap, its hash of page addresses, and the slots of kmap_local."""
