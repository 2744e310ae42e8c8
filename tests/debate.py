"""The machines of the debate of 2006 on the virtual mem_map (FACTS F), by their RAM."""

from __future__ import annotations

from kvmtools.records import E820Entry

GIB = 1 << 30

#: 0x375fe pfns: MAXMEM of the small PAE kernel, measured in a guest (FACTS A.1, "885MB LOWMEM").
MAXMEM = 0x375FE000


def ram(*ends: tuple[float, float]) -> tuple[E820Entry, ...]:
    """RAM between GiBs."""
    return tuple(E820Entry(int(a * GIB), int((b - a) * GIB), 1) for a, b in ends)


ONE = ram((0, 1))
THREE_AND_ONE = ram((0, 3), (4, 5))
SIXTEEN = ram((0, 3), (4, 17))
SIXTY_FOUR = ram((0, 3), (4, 64))
FAR_APART = ram((0, 2), (32, 34))
