"""Atomic visibility: no fractured reads (Bailis et al., "Scalable atomic visibility", 2014).

Who is shown one value of a transaction is shown nothing older than its other values, in the same
snapshot. Something concurrent may have won over one of them: that is not a fracture.
O(reads x writes of the transactions that are read from).
"""

from __future__ import annotations

from collections.abc import Sequence

from checkers.order import CausalOrder, Transaction
from checkers.violation import Violation

__all__ = ["atomicity"]


def atomicity(history: Sequence[Transaction]) -> list[Violation]:
    """Every snapshot that shows part of a transaction."""
    order = CausalOrder(history)
    found = []
    for index, transaction in enumerate(history):
        for source in dict.fromkeys(order.sources(index)):
            for variable in history[source].writes.keys() & transaction.reads.keys():
                value = transaction.reads[variable]
                other = order.source(variable, value)
                if other is None and value is not None:
                    continue  # out of thin air: `causality` says so
                if order.is_older(other, source):
                    told = f"{order.told(index)} is shown part of {order.told(source)}"
                    older = f"its {variable} is of {order.told(other)}"
                    found.append(Violation("fractured read", f"{told}: {older}"))
    return found
