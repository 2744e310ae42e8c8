"""The kernel's address space: its boundaries, and what must be mapped between them."""
