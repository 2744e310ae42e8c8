"""Processes that have an address space, and whose page tables a CR3 leads to."""
