"""What the random executions ask of replicas: few objects, every operation, old read contexts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any, Final, NamedTuple

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import Delete, OperationType
from crdtdb.transaction import Erase, Transaction, Update
from crdtdb.types import CATALOGUE
from operations import random_operation
from oracle.events import Scope
from replicas import update

__all__ = ["Request", "Requests", "as_transaction", "must_fail"]

#: Buckets and keys of which one begins another.
_BUCKETS: Final = ("shop", "shop2")
_KEYS: Final = ("a", "ab")
_NO_SUCH: Final = ObjectName("shop", "nosuchtype", "a")
_OPERATION_BASED: Final = [name for name, t in CATALOGUE.items() if isinstance(t, OperationType)]
_STATE_BASED: Final = [name for name in CATALOGUE if name not in _OPERATION_BASED]


class Request(NamedTuple):
    """One operation, in the terms of the specification and, by `update`, of the engine."""

    target: ObjectName | Scope
    operation: dict[str, Any]
    #: The read context, if one is given.
    context: VersionVector | None = None

    def update(self) -> Update | Erase:
        """What the engine is asked."""
        if self.target == _NO_SUCH:
            return Update(_NO_SUCH, Delete())
        if isinstance(self.target, ObjectName):
            return update(self.target, self.operation, self.context)
        bucket, type_name, key_start = self.target
        if type_name is None:
            return Erase(address.bucket_prefix(bucket))
        return Erase(address.key_prefix(bucket, type_name, key_start))


def as_transaction(requests: Sequence[Request]) -> Transaction:
    """Requests that take effect together."""
    return Transaction(tuple(request.update() for request in requests))


def must_fail(requests: Sequence[Request]) -> bool:
    """Is there one among them that no replica can carry out?"""
    return any(request.target == _NO_SUCH for request in requests)


class Requests:
    """Draws requests about a handful of objects."""

    def __init__(self, random: Random, types: Sequence[str] = ()) -> None:
        """About objects of these types; else of both families, however few types one has."""
        self._random = random
        types = types or [random.choice(_OPERATION_BASED), *random.sample(_STATE_BASED, 2)]
        names = [ObjectName(*parts) for parts in product(_BUCKETS, types, _KEYS)]
        self.names = random.sample(names, random.randint(1, min(6, len(names))))

    def group(self, reads: Sequence[VersionVector]) -> list[list[Request]]:
        """Transactions to commit together. `reads`: what reads have shown, to be given back."""
        return [self._transaction(reads) for _ in range(self._random.choice((1, 1, 2, 3)))]

    def _transaction(self, reads: Sequence[VersionVector]) -> list[Request]:
        count = self._random.choice((1, 1, 1, 2, 3, 5))
        requests = [self._request(reads) for _ in range(count)]
        if self._random.random() < 0.08:
            requests.append(Request(_NO_SUCH, {"op": "delete"}))
        return requests

    def _request(self, reads: Sequence[VersionVector]) -> Request:
        if self._random.random() < 0.06:
            return Request(self._scope(), {"op": "erase"})
        name = self._random.choice(self.names)
        request = Request(name, random_operation(name.type, self._random))
        if self._random.random() < 0.4 and _takes_context(request):
            return request._replace(context=self._random.choice(reads))
        return request

    def _scope(self) -> Scope:
        bucket, type_name, key = self._random.choice(self.names)
        scopes = [Scope(bucket), Scope(bucket, type_name), Scope(bucket, type_name, key[:1])]
        return self._random.choice(scopes)


def _takes_context(request: Request) -> bool:
    asked = request.update()
    assert isinstance(asked, Update)
    return CATALOGUE[asked.name.type].removable and hasattr(asked.operation, "seen")
