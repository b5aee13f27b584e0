"""What users do: the requests of the oracle's executions, on enough objects for a long run."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Final

from crdtdb.address import ObjectName
from crdtdb.types import CATALOGUE
from oracle.requests import Requests

__all__ = ["workload"]

#: Buckets and keys of which one begins another.
_BUCKETS: Final = ("shop", "shops")
_KEYS: Final = ("k", "k1", "other")


def workload(random: Random, objects: int) -> Requests:
    """Requests for one run. The op-based family is always there: folding is most at risk."""
    requests = Requests(random)
    names = [ObjectName(*parts) for parts in product(_BUCKETS, CATALOGUE, _KEYS)]
    requests.names = [ObjectName("shop", "opcounter", "k"), *random.sample(names, objects - 1)]
    return requests
