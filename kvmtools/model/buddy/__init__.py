"""The buddy allocator over any ``mem_map``."""
