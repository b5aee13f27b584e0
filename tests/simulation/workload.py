"""What users do: the requests of the oracle's executions, on enough objects for a long run.

Now and then a transaction lights beacons, too: it sets some of a few registers to a number that is
never written again. So every read of a beacon says which transaction it reads from, and what a run
showed can be judged without asking the implementation what it has seen (`notes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, product
from random import Random
from typing import Final

from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.types import CATALOGUE
from oracle.requests import Request, Requests

__all__ = ["BEACONS", "workload"]

#: Buckets and keys of which one begins another.
_BUCKETS: Final = ("shop", "shops")
_KEYS: Final = ("k", "k1", "other")
#: Registers that nothing erases, set by transactions to numbers that are never written again.
BEACONS: Final = tuple(ObjectName("beacons", "register", key) for key in ("x", "y", "z"))
_LIT: Final = 0.4


class _Workload(Requests):
    """Requests, some of whose transactions light two beacons."""

    def __init__(self, random: Random, objects: int) -> None:
        super().__init__(random)
        names = [ObjectName(*parts) for parts in product(_BUCKETS, CATALOGUE, _KEYS)]
        self.names = [ObjectName("shop", "opcounter", "k"), *random.sample(names, objects - 1)]
        self._numbers = count(1)

    def group(self, reads: Sequence[VersionVector]) -> list[list[Request]]:
        group = super().group(reads)
        if self._random.random() < _LIT:
            number = next(self._numbers)
            for beacon in self._random.sample(BEACONS, 2):
                group[0].append(Request(beacon, {"op": "set", "value": number}))
        return group


def workload(random: Random, objects: int) -> Requests:
    """Requests for one run. The op-based family is always there: folding is most at risk."""
    return _Workload(random, objects)
