"""``struct page`` and ``mem_map`` as they ought to be."""
