"""``mem_map``: every ``struct page`` of the guest, and what it says."""
