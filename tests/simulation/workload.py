"""What users do: the requests of the oracle's executions, on enough objects for a long run.

Now and then a transaction lights beacons, too: it sets some of a few registers to a number that is
never written again. So every read of a beacon says which transaction it reads from, and what a run
showed can be judged without asking the implementation what it has seen (`notes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, product
from random import Random
from typing import Any, Final

from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import OperationType
from crdtdb.types import CATALOGUE
from operations import random_operation
from oracle.requests import Request, Requests

__all__ = ["BEACONS", "TIMED_BUCKET", "workload"]

#: Buckets and keys of which one begins another.
_BUCKETS: Final = ("shop", "shops")
_KEYS: Final = ("k", "k1", "other")
#: Registers that nothing erases, set by transactions to numbers that are never written again.
BEACONS: Final = tuple(ObjectName("beacons", "register", key) for key in ("x", "y", "z"))
_LIT: Final = 0.4
#: Where objects with deadlines are; nothing erases them. (Of a list the specification would have to
#: be told which elements a replica holds, also as a leaf.)
TIMED_BUCKET: Final = "hours"
_TIMED_TYPES: Final = [n for n, kind in CATALOGUE.items() if kind.deletable and n != "list"]
_LOGGED: Final = [n for n, kind in CATALOGUE.items() if isinstance(kind, OperationType)]
_IN_MS: Final = (50, 200, 800, 1_500)
_TIMED: Final = 0.6


class _Workload(Requests):
    """Requests, some of whose transactions light two beacons."""

    def __init__(self, random: Random, objects: int, timed: int) -> None:
        super().__init__(random)
        names = [ObjectName(*parts) for parts in product(_BUCKETS, CATALOGUE, _KEYS)]
        self.names = [ObjectName("shop", "opcounter", "k"), *random.sample(names, objects - 1)]
        self._numbers = count(1)
        types = random.sample(_TIMED_TYPES, timed)
        self._timed = [ObjectName(TIMED_BUCKET, type_name, "k") for type_name in types]

    def group(self, reads: Sequence[VersionVector]) -> list[list[Request]]:
        group = super().group(reads)
        if self._random.random() < _LIT:
            number = next(self._numbers)
            for beacon in self._random.sample(BEACONS, 2):
                group[0].append(Request(beacon, {"op": "set", "value": number}))
        if self._timed and self._random.random() < _TIMED:
            name = self._random.choice(self._timed)
            group.append([Request(name, self._until(name))])
        return group

    def _until(self, name: ObjectName) -> dict[str, Any]:
        """An operation on an object that has a deadline now and then."""
        chance = self._random.random()
        if chance < 0.22:
            return {"op": "expire", "in_ms": self._random.choice(_IN_MS)}
        if chance < 0.3:
            return {"op": "persist"}
        while True:
            operation = random_operation(name.type, self._random)
            if operation.get("do", {}).get("type") not in _LOGGED:
                return operation


def workload(random: Random, objects: int, timed: int = 0) -> Requests:
    """Requests for one run. The op-based family is always there: folding is most at risk.

    So many objects more have deadlines.
    """
    return _Workload(random, objects, timed)
