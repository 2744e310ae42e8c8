"""What the CPUs' TLBs may still hold: every translation that was there to be loaded since the last flush.

A CPU may load a translation at any time, even for an address it never uses, and keep it as long as nobody flushes
it.  So the worst that is allowed is assumed: each CPU loads an entry the moment it becomes present.  Code that is
right with such TLBs is right with all.

Source: Intel SDM volume 3, "Caching Translation Information" (section 4.10): entries may be cached at any time by
speculation (4.10.2.3), and stay after the page table changed until they are invalidated (4.10.4).
"""

from __future__ import annotations


class Tlbs:
    """One set of (slot, page) for each CPU."""

    def __init__(self, nr_cpus: int) -> None:
        self.cpus: list[set[tuple[int, int]]] = [set() for _ in range(nr_cpus)]

    def load(self, slot: int, page: int) -> None:
        """The slot's PTE became present: every CPU takes the translation up."""
        for cached in self.cpus:
            cached.add((slot, page))

    def flush(self, cpu: int) -> None:
        """One CPU drops all of its translations of the area."""
        self.cpus[cpu].clear()

    def seen(self, cpu: int, slot: int) -> set[int]:
        """The pages that an access of that CPU through that slot may reach without walking the page table."""
        return {page for cached, page in self.cpus[cpu] if cached == slot}
