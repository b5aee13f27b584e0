"""Causal consistency of a history: none of the bad patterns that exclude it.

Bouajjani, Enea, Guerraoui, Hamza, "On verifying causal consistency" (POPL 2017), table 3. With
unique values a history is causally consistent exactly if it has none of the first four, and
causally convergent (concurrent writes are decided alike everywhere) exactly if it has not the fifth
either. O(transactions x reads x sessions that write one variable).

Left out on purpose: `CyclicHB` and `WriteHBInitRead`, which exclude causal *memory*. There each
session orders concurrent writes for itself, once and for all. A register that converges may show
one's own write first and then a concurrent greater one from before it: allowed here, not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from checkers.order import CausalOrder, Transaction
from checkers.violation import Violation

__all__ = ["causality", "convergent_causality"]


def causality(history: Sequence[Transaction]) -> list[Violation]:
    """`CyclicCO`, `ThinAirRead`, `WriteCOInitRead` and `WriteCORead`."""
    order = CausalOrder(history)
    return [*_cyclic(order), *_bad_reads(order)]


def convergent_causality(history: Sequence[Transaction]) -> list[Violation]:
    """Those, and `CyclicCF`, of registers of which one concurrent write wins everywhere."""
    order = CausalOrder(history)
    return [*_cyclic(order), *_bad_reads(order), *_conflicts(order)]


def _cyclic(order: CausalOrder) -> Iterator[Violation]:
    if order.stuck:
        told = "; ".join(map(order.told, order.stuck))
        yield Violation("CyclicCO", f"each of these is before itself, or waits for one: {told}")


def _bad_reads(order: CausalOrder) -> Iterator[Violation]:
    for index, transaction in enumerate(order.history):
        for variable, value in transaction.reads.items():
            source = order.source(variable, value)
            if value is not None and source is None:
                told = f"{order.told(index)}, but nobody wrote {variable} = {value!r}"
                yield Violation("ThinAirRead", told)
                continue
            for write in order.last_writes(variable, index):
                if write != source and order.is_older(source, write):
                    check = "WriteCOInitRead" if source is None else "WriteCORead"
                    told = f"{order.told(index)} knows of {order.told(write)}, which is later"
                    yield Violation(check, f"{told} than {variable} of {order.told(source)}")
                    break


def _conflicts(order: CausalOrder) -> Iterator[Violation]:
    """Who reads one write and knows of another has decided that this other one loses."""
    beats: dict[int, set[int]] = {}
    for index, transaction in enumerate(order.history):
        for variable, value in transaction.reads.items():
            source = order.source(variable, value)
            if source is not None:
                losers = set(order.last_writes(variable, index)) - {source}
                for loser in losers:
                    beats.setdefault(loser, set()).add(source)
        for source in set(order.sources(index)):
            beats.setdefault(source, set()).add(index)
    for line in order.lines.values():
        for earlier, later in pairwise(line):
            beats.setdefault(earlier, set()).add(later)
    left = _without_order(len(order.history), beats)
    if left and not order.stuck:
        told = "; ".join(order.told(index) for index in left if order.history[index].writes)
        yield Violation("CyclicCF", f"no order of these agrees with what was read: {told}")


def _without_order(count: int, edges: dict[int, set[int]]) -> list[int]:
    """What is on a cycle, or between two cycles."""
    back: dict[int, set[int]] = {}
    for source, targets in edges.items():
        for target in targets:
            back.setdefault(target, set()).add(source)
    left = set(range(count))
    for there, here in ((edges, back), (back, edges)):
        degree = {node: len(here.get(node, set()) & left) for node in left}
        free = [node for node, number in degree.items() if not number]
        while free:
            node = free.pop()
            left.discard(node)
            for target in there.get(node, set()) & left:
                degree[target] -= 1
                if not degree[target]:
                    free.append(target)
    return sorted(left)
