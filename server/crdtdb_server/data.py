"""One object: read it, change it, delete it."""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections.abc import Awaitable
from typing import Any, Final

from crdtdb.address import ObjectName
from crdtdb.database import summary
from crdtdb.datatype import ScoredType
from crdtdb.errors import BadRequest, Field, InvalidOperation
from crdtdb.handles import Written
from crdtdb.head import Head
from crdtdb.jsonvalue import JsonValue
from crdtdb.operations import check_name, operation_names, too_many, type_named
from crdtdb.query import below, encode_bound, only_member
from crdtdb.reading import Reading
from crdtdb.transaction import Result, Update
from crdtdb.types import CATALOGUE
from crdtdb_server.conditions import entity_tag, is_unchanged
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Headers, ObjectState, Request
from crdtdb_server.parameters import Boolean, parameters
from crdtdb_server.parts import PART_PARAMETERS, Part, part_of
from crdtdb_server.service import Service
from crdtdb_server.writing import answer_write

__all__ = [
    "READ_PARAMETERS",
    "delete_object",
    "get_object",
    "object_document",
    "post_object",
    "put_object",
    "result_document",
]

_EXPLAIN: Final = Boolean("explain", "Show why it reads so: dots, writers, times, losers")
READ_PARAMETERS: Final = {**PART_PARAMETERS, **parameters(_EXPLAIN)}

_EXISTS: Final[dict[bool, Headers]] = {
    True: (("Crdtdb-Exists", "true"),),
    False: (("Crdtdb-Exists", "false"),),
}


def get_object(service: Service, request: Request) -> Answer | Awaitable[Answer]:
    """The value of an object, a page of its members (`from` ≤ member < `to`), or one of them.

    Of a map: its value, nested, by pages; its leaves at and below `prefix`; or one `field`.

    HEAD, and a tag that still holds, are answered from the object's head: O(1), no value is read.
    """
    name = ObjectName(*request.names)
    check_name(name)
    query = dict(request.query)
    explained = query.pop(_EXPLAIN.name, _EXPLAIN.default)
    part = part_of(name.type, query)
    is_read = request.method == "GET"
    if is_read and part.is_ranked(name.type) and not service.database.is_ranked(name):
        return _rank_first(service, request, name, part, explained)
    return _object(service, request, name, part, explained)


async def _rank_first(
    service: Service, request: Request, name: ObjectName, part: Part, explained: bool
) -> Answer:
    """Ranking many members takes a while, in which others are to be answered."""
    await asyncio.to_thread(service.database.rank, name)
    return _object(service, request, name, part, explained)


def _object(
    service: Service, request: Request, name: ObjectName, part: Part, explained: bool
) -> Answer:
    store_id = service.database.engine.state.store_id
    reading = service.readings.newest()
    head = reading.head(name.prefix)
    seen = reading.seen
    headers = _EXISTS[head.exists] + entity_tag(store_id, head.sequence)
    holds_while = None
    names_an_editor = part.since is not None  # each gets another name
    if head.exists and not (head.timed or explained or names_an_editor):
        holds_while = ObjectState(name.prefix, head.sequence)
    if is_unchanged(request.headers, store_id, head):
        return Answer(b"", seen, 304, headers=headers, holds_while=holds_while)
    if request.method == "HEAD":
        return Answer(b"", seen, headers=headers, holds_while=holds_while)
    document = object_document(service, reading, name, part, head)
    if explained:
        document["explain"] = _explanation(service, reading, name, part)
    return Answer(dump(document), seen, headers=headers, holds_while=holds_while)


def _explanation(
    service: Service, reading: Reading, name: ObjectName, part: Part
) -> dict[str, Any]:
    """Why the part reads as it does."""
    if part.member:
        query = only_member(encode_bound(part.member[0], "member"))
    elif part.field is not None:
        query = below(part.field)
    elif part.query.order != "member":
        raise BadRequest(
            "members are explained in their own order; leave `order` out",
            Field("order", "not together with `explain`", "member"),
        )
    else:
        query = part.query.page(part.query.identity(name))
    return service.database.explanation(reading, name, query)


def object_document(
    service: Service, reading: Reading, name: ObjectName, part: Part, head: Head | None = None
) -> dict[str, Any]:
    """What a reading shows of an object, whose head may be at hand already."""
    if part.member:
        return _member_document(service, reading, name, part.member[0])
    if part.field is not None:
        return _field_document(service, reading, name, part.field)
    if part.since is not None:
        return _difference_document(service, reading, name, part.since)
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
    if read.expires_at_ms is not None:
        document["expires_at_ms"] = read.expires_at_ms
    return document


def _member_document(
    service: Service, reading: Reading, name: ObjectName, member: JsonValue
) -> dict[str, Any]:
    """Is it a member, or with which score?"""
    if not isinstance(type_named(name.type), ScoredType):
        return {"value": reading.contains(name, encode_bound(member, "member"))}
    standing = service.database.standing_in(reading, name, member)
    if standing is None:
        return {"value": None, "rank": None}
    return {"value": standing.score, "rank": standing.rank}


def _difference_document(
    service: Service, reading: Reading, name: ObjectName, since: bytes
) -> dict[str, Any]:
    """What somebody lacks of a text, and who they are here."""
    enrolled = service.database.enrol_in(reading, name, since)
    return {
        "bucket": name.bucket,
        "type": name.type,
        "key": name.key,
        "value": b2a_base64(enrolled.update, newline=False).decode(),
        "exists": reading.head(name.prefix).exists,
        "client": enrolled.client,
    }


def _field_document(
    service: Service, reading: Reading, name: ObjectName, path: tuple[str, ...]
) -> dict[str, Any]:
    """What a field of a map holds."""
    found = service.database.field_in(reading, name, path)
    document = {
        "field": list(found.field),
        "type": found.type,
        "value": found.value,
        "seen": found.seen,
    }
    if found.others:
        document["others"] = found.others
    return document


def post_object(service: Service, request: Request) -> Awaitable[Answer]:
    """Carry out one operation, or a list of them that take effect together."""
    name = ObjectName(*request.names)
    plain = read_json(request)
    database = service.database
    if not isinstance(plain, list):
        return _update_object(service, request, name, (database.parse_update(name, plain),))
    if not plain:
        raise BadRequest("the list of operations is empty", Field("", "needs one entry or more"))
    if len(plain) > (most := service.options.bounds.transaction_operations):
        raise too_many(len(plain), most)
    updates = [database.parse_update(name, one, f"[{i}]") for i, one in enumerate(plain)]
    return _update_object(service, request, name, tuple(updates))


def put_object(service: Service, request: Request) -> Awaitable[Answer]:
    """Set a register to the value in the body, or bring that value into a max or min."""
    name = ObjectName(*request.names)
    check_name(name)
    if "set" not in operation_names(name.type):
        registers = ", ".join(one for one in CATALOGUE if "set" in operation_names(one))
        raise InvalidOperation(
            f"a {name.type} is not set to a value; POST one of its operations",
            Field("type", "not for PUT", registers),
        )
    plain = {"op": "set", "value": read_json(request), **request.query}
    update = service.database.parse_update(name, plain)
    return _update_object(service, request, name, (update,))


def delete_object(service: Service, request: Request) -> Awaitable[Answer]:
    """Remove the whole object, as far as it was observed."""
    name = ObjectName(*request.names)
    plain = {"op": "delete", **request.query}
    update = service.database.parse_update(name, plain)
    return _update_object(service, request, name, (update,))


def _update_object(
    service: Service, request: Request, name: ObjectName, updates: tuple[Update, ...]
) -> Awaitable[Answer]:
    def shown(results: tuple[Result, ...]) -> bytes:
        return dump(result_document(name.type, summary(results)))

    return answer_write(service, request, updates, shown, name=name)


def result_document(type_name: str, result: Result | Written) -> dict[str, Any]:
    """What an update did: the value or the size it left, and whether users see a change."""
    if type_named(type_name).sized:
        return {"size": result.size, "changed": result.changed}
    return {"value": result.value, "changed": result.changed}
