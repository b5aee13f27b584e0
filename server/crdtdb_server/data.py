"""One object: read it, change it, delete it."""

from __future__ import annotations

from typing import Any, Final

from crdtdb.address import ObjectName
from crdtdb.database import check_name, summary, too_many
from crdtdb.errors import BadRequest, Field
from crdtdb.handles import Written
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.reading import Reading
from crdtdb.transaction import Result, Update
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Headers, Request
from crdtdb_server.parameters import Part, part_of_query
from crdtdb_server.service import Service

__all__ = [
    "delete_object",
    "get_object",
    "object_document",
    "post_object",
    "put_object",
    "result_document",
]

_EXISTS: Final[dict[bool, Headers]] = {
    True: (("Crdtdb-Exists", "true"),),
    False: (("Crdtdb-Exists", "false"),),
}


async def get_object(service: Service, request: Request) -> Answer:
    """The value of an object, a page of its members (`from` ≤ member < `to`), or one member."""
    name = ObjectName(*request.names)
    check_name(name)
    part = part_of_query(name.type, request.query)
    with service.database.reading() as reading:
        document = object_document(service, reading, name, part)
        seen = reading.seen
    exists = document.get("exists")
    return Answer(dump(document), seen, headers=() if exists is None else _EXISTS[exists])


def object_document(
    service: Service, reading: Reading, name: ObjectName, part: Part
) -> dict[str, Any]:
    """What a reading shows of an object."""
    if part.member:
        return {"value": reading.contains(name, part.member[0])}
    read = service.database.answer(reading, name, part.query)
    document = {
        "bucket": name.bucket,
        "type": name.type,
        "key": name.key,
        "value": read.value,
        "exists": read.exists,
    }
    if read.seen is not None:
        document["seen"] = read.seen
    if read.size is not None:
        document["size"] = read.size
    if read.next is not None:
        document["next"] = read.next
    if read.also:
        document["also"] = read.also
    return document


async def post_object(service: Service, request: Request) -> Answer:
    """Carry out one operation, or a list of them that take effect together."""
    name = ObjectName(*request.names)
    check_name(name)
    plain = await read_json(request)
    database = service.database
    if not isinstance(plain, list):
        return await _update_object(service, name, (database.parse_update(name, plain),))
    if not plain:
        raise BadRequest("the list of operations is empty", Field("", "needs one entry or more"))
    if len(plain) > LIMITS.transaction_operations:
        raise too_many(len(plain))
    updates = [database.parse_update(name, one, f"[{i}]") for i, one in enumerate(plain)]
    return await _update_object(service, name, tuple(updates))


async def put_object(service: Service, request: Request) -> Answer:
    """Set the value of a register to the body."""
    name = ObjectName(*request.names)
    check_name(name)
    plain = {"op": "set", "value": await read_json(request), **request.query}
    return await _update_object(service, name, (service.database.parse_update(name, plain),))


async def delete_object(service: Service, request: Request) -> Answer:
    """Remove the whole object, as far as it was observed."""
    name = ObjectName(*request.names)
    plain = {"op": "delete", **request.query}
    return await _update_object(service, name, (service.database.parse_update(name, plain),))


async def _update_object(service: Service, name: ObjectName, updates: tuple[Update, ...]) -> Answer:
    last = summary(await service.carry_out(updates))
    return Answer(dump(result_document(name.type, last)), service.seen)


def result_document(type_name: str, result: Result | Written) -> dict[str, Any]:
    """What an update did: the value or the size it left, and whether users see a change."""
    if type_named(type_name).collection:
        return {"size": result.size, "changed": result.changed}
    return {"value": result.value, "changed": result.changed}
