"""One object: read it, change it, delete it."""

from __future__ import annotations

from typing import Any, Final

from crdtdb import jsonvalue
from crdtdb.address import ObjectName
from crdtdb.database import check_name, summary, too_many
from crdtdb.errors import BadRequest, Field
from crdtdb.explain import explain
from crdtdb.handles import Written
from crdtdb.head import Head
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.reading import Reading
from crdtdb.replication.members import read_members
from crdtdb.transaction import Result, Update
from crdtdb_server.conditions import entity_tag, is_unchanged
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Headers, Request
from crdtdb_server.parameters import Part, boolean, part_of_query
from crdtdb_server.service import Service
from crdtdb_server.writing import answer_write

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
    """The value of an object, a page of its members (`from` ≤ member < `to`), or one member.

    HEAD, and a tag that still holds, are answered from the object's head: O(1), no value is read.
    """
    name = ObjectName(*request.names)
    check_name(name)
    query = dict(request.query)
    explained = boolean(query.pop("explain", "false"), "explain")
    part = part_of_query(name.type, query)
    store_id = service.database.engine.state.store_id
    with service.database.reading() as reading:
        head = reading.head(name.prefix)
        seen = reading.seen
        headers = _EXISTS[head.exists] + entity_tag(store_id, head.sequence)
        if is_unchanged(request.headers, store_id, head):
            return Answer(b"", seen, 304, headers=headers)
        if request.method == "HEAD":
            return Answer(b"", seen, headers=headers)
        document = object_document(service, reading, name, part, head)
        if explained:
            document["explain"] = _explanation(service, reading, name, part)
    return Answer(dump(document), seen, headers=headers)


def _explanation(
    service: Service, reading: Reading, name: ObjectName, part: Part
) -> dict[str, Any]:
    """Why the part reads as it does."""
    database = service.database
    names = {member.incarnation: member.name for member in read_members(reading).values()}
    names[database.engine.state.incarnation] = database.replica
    query = part.query.page(part.query.identity(name))
    if part.member:
        start = jsonvalue.encode(part.member[0])
        query = query._replace(start=start, end=start + b"\0")
    return explain(reading, name, names, query)


def object_document(
    service: Service, reading: Reading, name: ObjectName, part: Part, head: Head | None = None
) -> dict[str, Any]:
    """What a reading shows of an object, whose head may be at hand already."""
    if part.member:
        return {"value": reading.contains(name, part.member[0])}
    read = service.database.answer(reading, name, part.query, head)
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
        return await _update_object(service, request, name, (database.parse_update(name, plain),))
    if not plain:
        raise BadRequest("the list of operations is empty", Field("", "needs one entry or more"))
    if len(plain) > LIMITS.transaction_operations:
        raise too_many(len(plain))
    updates = [database.parse_update(name, one, f"[{i}]") for i, one in enumerate(plain)]
    return await _update_object(service, request, name, tuple(updates))


async def put_object(service: Service, request: Request) -> Answer:
    """Set the value of a register to the body."""
    name = ObjectName(*request.names)
    check_name(name)
    plain = {"op": "set", "value": await read_json(request), **request.query}
    update = service.database.parse_update(name, plain)
    return await _update_object(service, request, name, (update,))


async def delete_object(service: Service, request: Request) -> Answer:
    """Remove the whole object, as far as it was observed."""
    name = ObjectName(*request.names)
    plain = {"op": "delete", **request.query}
    update = service.database.parse_update(name, plain)
    return await _update_object(service, request, name, (update,))


async def _update_object(
    service: Service, request: Request, name: ObjectName, updates: tuple[Update, ...]
) -> Answer:
    def shown(results: tuple[Result, ...]) -> bytes:
        return dump(result_document(name.type, summary(results)))

    return await answer_write(service, request, updates, shown, name=name)


def result_document(type_name: str, result: Result | Written) -> dict[str, Any]:
    """What an update did: the value or the size it left, and whether users see a change."""
    if type_named(type_name).collection:
        return {"size": result.size, "changed": result.changed}
    return {"value": result.value, "changed": result.changed}
