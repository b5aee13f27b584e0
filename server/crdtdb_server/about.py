"""What this server is and how it does: `/v1`, `/v1/digest`, health and metrics."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any, Final

import msgspec

from crdtdb import __version__
from crdtdb.causal import VersionVector
from crdtdb.datatype import DataType, Delete, Operation
from crdtdb.limits import LIMITS
from crdtdb.reading import Digest
from crdtdb.types import CATALOGUE
from crdtdb_server.documents import dump
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.service import UNREADY, Service

__all__ = ["get_about", "get_digest", "get_health", "get_metrics", "get_readiness"]

#: What a client may rely on beyond the first release's routes.
FEATURES: Final = (
    "session-tokens",
    "read-contexts",
    "transactions",
    "entity-tags",
    "idempotency-keys",
    "acknowledgements",
    "explain",
    "import",
    "export",
)


async def get_about(service: Service, _: Request) -> Answer:
    """Version, replica and cluster; the types with their operations; the limits."""
    database = service.database
    document = {
        "version": __version__,
        "replica": database.replica,
        "region": database.region,
        "cluster": database.cluster,
        "types": _types(),
        "limits": LIMITS.as_dict(),
        "features": FEATURES,
    }
    return Answer(dump(document), service.seen)


async def get_digest(service: Service, _: Request) -> Answer:
    """A hash over everything users see: equal exactly when two replicas show the same."""
    # It looks at every object, so it must not hold up the event loop.
    digest, seen = await asyncio.to_thread(_digest, service)
    document = {
        "digest": f"{digest.digest:032x}",
        "objects": digest.objects,
        "context": service.sessions.token(seen),
    }
    return Answer(dump(document), seen)


def _digest(service: Service) -> tuple[Digest, VersionVector]:
    with service.database.reading() as reading:
        return reading.digest(), reading.seen


async def get_health(service: Service, _: Request) -> Answer:
    """The process is alive and its event loop turns."""
    return Answer(b'{"status":"ok"}', service.seen)


async def get_readiness(service: Service, _: Request) -> Answer:
    """Should this replica get requests?"""
    state = service.state()
    status = 503 if state in UNREADY else 200
    return Answer(dump({"state": state}), service.seen, status)


async def get_metrics(service: Service, _: Request) -> Answer:
    """The metrics, for Prometheus."""
    return Answer(service.metrics.text(), service.seen, media_type=service.metrics.media_type)


@cache
def _types() -> dict[str, Any]:
    return {name: _described(kind) for name, kind in CATALOGUE.items()}


def _described(kind: DataType) -> dict[str, Any]:
    structs: list[type[Operation]] = [*kind.operations, Delete]
    return {
        "summary": kind.summary,
        "collection": kind.collection,
        "removable": kind.removable,
        "operations": {str(struct.__struct_config__.tag): _operation(struct) for struct in structs},
    }


def _operation(struct: type[Operation]) -> dict[str, Any]:
    """An operation's fields, each as a JSON Schema, taken from the struct that checks them."""
    _, schemas = msgspec.json.schema_components([struct])
    schema = schemas[struct.__name__]
    fields = {name: field for name, field in schema["properties"].items() if name != "op"}
    return {
        "summary": schema["description"],
        "fields": fields,
        "required": [name for name in schema["required"] if name != "op"],
    }
