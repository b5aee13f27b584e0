"""What there is: buckets, types, keys; and removing whole ranges of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.cursor import read_cursor, write_cursor
from crdtdb.errors import Field, TooLarge
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.reading import Reading
from crdtdb.transaction import Erase, Result
from crdtdb_server.data import object_document
from crdtdb_server.documents import dump
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import AFTER, DRY_RUN, LIMIT, PREFIX, Boolean, parameters
from crdtdb_server.parts import Part
from crdtdb_server.service import Service
from crdtdb_server.writing import answer_write, terms_of

__all__ = [
    "KEYS_PARAMETERS",
    "PAGE_PARAMETERS",
    "delete_bucket",
    "delete_type",
    "get_bucket",
    "get_buckets",
    "get_keys",
]

_VALUES: Final = Boolean("values", "List whole objects instead of keys")

PAGE_PARAMETERS: Final = parameters(LIMIT, AFTER)
KEYS_PARAMETERS: Final = parameters(LIMIT, AFTER, PREFIX, _VALUES)


async def get_buckets(service: Service, request: Request) -> Answer:
    """The buckets in which something exists, of those that the caller may read."""
    limit, after = _page(request.query, "buckets")
    with service.database.reading() as reading:
        if request.principal.buckets is None:
            buckets, more = reading.buckets(after, limit)
        else:
            allowed = sorted(b for b in request.principal.buckets if after is None or b > after)
            existing = [bucket for bucket in allowed if reading.types(bucket)]
            buckets, more = existing[:limit], len(existing) > limit
        seen = reading.seen
    document: dict[str, Any] = {"buckets": buckets}
    if more:
        document["next"] = write_cursor("buckets", buckets[-1].encode())
    return Answer(dump(document), seen)


async def get_bucket(service: Service, request: Request) -> Answer:
    """The types under which something exists in a bucket."""
    (bucket,) = request.names
    address.check_bucket(bucket)
    with service.database.reading() as reading:
        document = {"bucket": bucket, "types": reading.types(bucket)}
        return Answer(dump(document), reading.seen)


async def get_keys(service: Service, request: Request) -> Answer:
    """The keys of a type that exist, with `values=true` as whole objects."""
    bucket, type_name = _named(request)
    start = PREFIX.of(request.query) or ""
    listing = f"keys {bucket}/{type_name}/{start}"
    limit, after = _page(request.query, listing)
    with_values = _VALUES.of(request.query)
    with service.database.reading() as reading:
        keys, more = reading.keys(bucket, type_name, start, after, limit)
        seen = reading.seen
        if with_values:
            shown = _objects(service, reading, bucket, type_name, keys)
            more = more or len(shown) < len(keys)
            keys = keys[: len(shown)]
    field, entries = ("objects", shown) if with_values else ("keys", [dump(key) for key in keys])
    document: dict[str, Any] = {"bucket": bucket, "type": type_name}
    if more:
        document["next"] = write_cursor(listing, keys[-1].encode())
    head = dump(document)[:-1]
    body = b"%b,%b:[%b]}" % (head, dump(field), b",".join(entries))
    return Answer(body, seen)


def _objects(
    service: Service, reading: Reading, bucket: str, type_name: str, keys: list[str]
) -> list[bytes]:
    """The documents of as many of these objects as fit one answer; at least of one."""
    documents: list[bytes] = []
    size = 0
    for key in keys:
        name = ObjectName(bucket, type_name, key)
        document = dump(object_document(service, reading, name, Part()))
        size += len(document)
        if documents and size > LIMITS.body_bytes:
            break
        documents.append(document)
    return documents


async def delete_bucket(service: Service, request: Request) -> Answer:
    """Remove everything in a bucket, as far as this replica has seen it."""
    (bucket,) = request.names
    address.check_bucket(bucket)
    return await _delete(service, request, address.bucket_prefix(bucket))


async def delete_type(service: Service, request: Request) -> Answer:
    """Remove the objects of a type in a bucket: all, or those whose keys begin with `prefix`."""
    bucket, type_name = _named(request)
    start = PREFIX.of(request.query) or ""
    return await _delete(service, request, address.key_prefix(bucket, type_name, start))


async def _delete(service: Service, request: Request, prefix: bytes) -> Answer:
    if DRY_RUN.of(request.query):
        terms_of(service, request, None)  # what the delete would refuse
        # A long scan: it must not hold up the event loop.
        objects = await asyncio.to_thread(_count, service, prefix)
        return Answer(dump({"objects": objects, "changed": False}), service.seen)
    return await answer_write(service, request, (Erase(prefix),), _erased)


def _erased(results: tuple[Result, ...]) -> bytes:
    (result,) = results
    return dump({"objects": result.size or 0, "changed": result.changed})


def _count(service: Service, prefix: bytes) -> int:
    """How many objects a delete would remove. Raises TooLarge where the delete would."""
    with service.database.reading() as reading:
        objects = 0
        for _ in reading.existing(prefix):
            objects += 1
            if objects > LIMITS.delete_objects:
                raise TooLarge(
                    f"more than {LIMITS.delete_objects} objects are below; delete by key prefix",
                    Field("prefix", "too many objects", LIMITS.delete_objects),
                )
    return objects


def _named(request: Request) -> tuple[str, str]:
    bucket, type_name = request.names
    address.check_bucket(bucket)
    type_named(type_name)
    return bucket, type_name


def _page(query: Mapping[str, Any], listing: str) -> tuple[int, str | None]:
    """Page size, and the name that the page comes after."""
    limit, cursor = LIMIT.of(query), AFTER.of(query)
    if cursor is None:
        return limit, None
    # Replaced, because a made-up cursor may hold anything; it then names some place or other.
    return limit, read_cursor(listing, cursor).decode(errors="replace")
