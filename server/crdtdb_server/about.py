"""What this server is and how it does: `/v1`, `/v1/digest`, health and metrics."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Final

from crdtdb import __version__
from crdtdb.causal import VersionVector
from crdtdb.datatype import NestedType, Operation, OperationType, StateType
from crdtdb.limits import LIMITS
from crdtdb.operations import operation_schema, operation_structs
from crdtdb.reading import Digest, Reading
from crdtdb.types import CATALOGUE
from crdtdb_server.answers import (
    AboutDocument,
    DigestDocument,
    OperationDocument,
    ReadinessDocument,
    TypeDocument,
    progress_document,
)
from crdtdb_server.documents import dump
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import Choice, parameters
from crdtdb_server.service import UNREADY, Service

__all__ = [
    "READINESS_PARAMETERS",
    "get_about",
    "get_digest",
    "get_health",
    "get_metrics",
    "get_readiness",
]

_FOR: Final = Choice("for", "Also not ready while it takes no writes", ("write",))
READINESS_PARAMETERS: Final = parameters(_FOR)

#: What a client may rely on beyond the first release's routes.
FEATURES: Final = (
    "session-tokens",
    "read-contexts",
    "transactions",
    "entity-tags",
    "idempotency-keys",
    "acknowledgements",
    "explain",
    "conflicts",
    "import",
    "export",
)


async def get_about(service: Service, _: Request) -> Answer:
    """Version, replica and cluster; the types with their operations; the limits."""
    database = service.database
    document: AboutDocument = {
        "version": __version__,
        "replica": database.replica,
        "region": database.region,
        "cluster": database.cluster,
        "types": _types(),
        "limits": LIMITS.as_dict() | service.options.bounds.as_dict(),
        "features": list(FEATURES),
    }
    return Answer(dump(document), service.seen)


async def get_digest(service: Service, _: Request) -> Answer:
    """A hash over everything users see: equal exactly when two replicas show the same."""
    # The first time it looks at every object, so it must not hold up the event loop.
    digest, seen = await asyncio.to_thread(_digest, service)
    document: DigestDocument = {
        "digest": f"{digest.digest:032x}",
        "objects": digest.objects,
        "context": service.sessions.token(seen),
    }
    return Answer(dump(document), seen)


def _digest(service: Service) -> tuple[Digest, VersionVector]:
    with service.database.engine.digests.view() as view:
        return view.digest(), Reading(view.snapshot).seen


async def get_health(service: Service, _: Request) -> Answer:
    """The process is alive and its event loop turns."""
    return Answer(b'{"status":"ok"}', service.seen)


async def get_readiness(service: Service, request: Request) -> Answer:
    """Should this replica get requests, or with `for=write` writes?"""
    state = service.state()
    unready = state in UNREADY or (state == "read_only" and _FOR.of(request.query) is not None)
    document: ReadinessDocument = {"state": state}
    if (off_by_ms := service.clock_off_by_ms()) is not None:
        document["clock_off_by_ms"] = off_by_ms
    if (progress := service.progress()) is not None:
        document["progress"] = progress_document(progress)
    if newer := service.newer_peers():
        document["newer_peers"] = newer
    if failing := service.failing():
        document["failing"] = failing
    return Answer(dump(document), service.seen, 503 if unready else 200)


async def get_metrics(service: Service, _: Request) -> Answer:
    """The metrics, for Prometheus."""
    return Answer(service.metrics.text(), service.seen, media_type=service.metrics.media_type)


_NESTED: Final = [kind for kind in CATALOGUE.values() if isinstance(kind, NestedType)]


@cache
def _types() -> dict[str, TypeDocument]:
    return {name: _described(name, kind) for name, kind in CATALOGUE.items()}


def _described(name: str, kind: StateType | OperationType) -> TypeDocument:
    return {
        "summary": kind.summary,
        "collection": kind.collection,
        "removable": kind.removable,
        "leaf": any(other.holds(kind) for other in _NESTED),
        "operations": {op: _operation(struct) for op, struct in operation_structs(name).items()},
    }


def _operation(struct: type[Operation]) -> OperationDocument:
    """An operation's fields, each as a JSON Schema."""
    schema = operation_schema(struct)
    fields = {name: field for name, field in schema["properties"].items() if name != "op"}
    return {
        "summary": schema["description"],
        "fields": fields,
        "required": [name for name in schema["required"] if name != "op"],
    }
