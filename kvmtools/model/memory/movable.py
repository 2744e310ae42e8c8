"""Where zone MOVABLE begins in each node: ``kernelcore=`` and ``movablecore=``.

What the kernel may use for anything is spread over the nodes, each the same share; what a node cannot give is asked of
those that still have memory, in another round.  Below the highest zone all is the kernel's in any case.

Source: mm/page_alloc.c (find_zone_movable_pfns_for_nodes), 5.10 and 6.1; mm/mm_init.c, 6.12 and 7.2.  Not followed:
``movable_node``, which needs memory that can be unplugged, and ``kernelcore=mirror`` on machines that have such memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvmtools.model import eras
from kvmtools.model.command_line import memparse, number, values
from kvmtools.model.memory.ram import Ram
from kvmtools.model.rounding import roundup
from kvmtools.records import PAGE_SIZE, Configuration

_UNSIGNED_LONG = 1 << 32


def starts(configuration: Configuration, lowest: int, nodes: Sequence[Ram]) -> list[int | None]:
    """The first pfn of ``MOVABLE`` in each of the nodes.

    ``None`` if the command line asks for none, or nobody listens.  It may lie at the end of a node's RAM or beyond:
    then the zone is empty all the same.

    :param lowest: where the zone begins out of which ``MOVABLE`` is cut, the highest that is not empty
    """
    kernelcore = _kernelcore(configuration, sum(len(r) for ram in nodes for r in ram.ranges))
    if not kernelcore:
        return [None] * len(nodes)
    block = 1 << (configuration.max_order - 1)
    return [roundup(start, block) for start in _spread(kernelcore, lowest, nodes)]


def _kernelcore(configuration: Configuration, total: int) -> int:
    """Pages that are not to be ``MOVABLE``; 0 if nobody asks, or for all."""
    if "MOVABLE" not in configuration.zone_names:
        return 0
    if any("mirror" in value.split(",") for value in values(configuration.command_line, "kernelcore")):
        return 0
    block = 1 << (configuration.max_order - 1)
    kernelcore = _pages_asked(configuration, "kernelcore", total)
    movablecore = _pages_asked(configuration, "movablecore", total)
    if movablecore:
        kernelcore = max(kernelcore, total - min(total, roundup(movablecore, block)))
    return kernelcore if kernelcore < total else 0


def _spread(kernelcore: int, lowest: int, nodes: Sequence[Ram]) -> list[int]:
    """How far into each node the kernel's share reaches."""
    reached = [0] * len(nodes)
    rounds = sum(bool(ram.ranges) for ram in nodes)
    while True:
        share = kernelcore // rounds
        for node, ram in enumerate(nodes):
            if kernelcore < share:
                share = kernelcore // rounds
            reached[node], given = _take(share, lowest, ram, reached[node])
            kernelcore -= min(given, kernelcore)
        rounds -= 1
        # So few pages, one a node at most, are not worth another round.
        if kernelcore <= rounds:
            return reached


def _take(share: int, lowest: int, ram: Ram, reached: int) -> tuple[int, int]:
    """One node's part of one round: where it ends now, and how many pages were given.

    More than the share, if so much lies below ``lowest``; fewer, if the node has no more.
    """
    given = 0
    for r in ram.within(reached, ram.end_pfn):
        below = max(0, min(r.end, lowest) - r.start)
        given += below
        if r.end <= lowest:
            reached = r.end
            continue
        start = max(r.start, lowest)
        taken = min(r.end - start, max(0, share - given))
        reached = start + taken
        given += taken
        if given >= share:
            break
    return reached, given


def _pages_asked(configuration: Configuration, name: str, total: int) -> int:
    """``kernelcore=`` or ``movablecore=``, given in bytes or in percent of all RAM; the last one counts."""
    given = values(configuration.command_line, name)
    if not given:
        return 0
    percent, rest = number(given[-1])
    if rest.startswith("%") and eras.shown(configuration.marks).movable_percent:
        # The product is an unsigned long: on i386 half of 4 GiB is too much for it.
        return total * 100 * percent % _UNSIGNED_LONG // 10000
    return memparse(given[-1])[0] // PAGE_SIZE
