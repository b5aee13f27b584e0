"""Which part of an object a read asks for: a page of its members, or one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from crdtdb import jsonvalue
from crdtdb.errors import BadRequest, Field, InvalidOperation, joined
from crdtdb.jsonvalue import JsonValue
from crdtdb.operations import type_named
from crdtdb.query import WHOLE, Query
from crdtdb_server.parameters import AFTER, LIMIT, Boolean, Json, parameters

__all__ = ["PART_PARAMETERS", "Part", "part_of"]

_FROM: Final = Json("from", "The least member of the page")
_TO: Final = Json("to", "The page ends before this member")
_REVERSE: Final = Boolean("reverse", "From the greatest member down")
_MEMBER: Final = Json("member", "Ask for one member only")

PART_PARAMETERS: Final = parameters(LIMIT, AFTER, _FROM, _TO, _REVERSE, _MEMBER)


class Part(NamedTuple):
    """A page of an object (or all of it), or one member."""

    query: Query = WHOLE
    #: The member asked for, alone in a tuple; empty for a page.
    member: tuple[JsonValue, ...] = ()


_ALL: Final = Part()


def part_of(type_name: str, given: Mapping[str, Any], place: str = "") -> Part:
    """The part that parameters ask for; they have been read, and stand at `place`.

    Raises BadRequest or InvalidOperation for those that do not go together, or with the type.
    """
    if not given:
        return _ALL
    if not type_named(type_name).collection:
        raise InvalidOperation(
            f"a {type_name} has no members; read it whole",
            Field(joined(place, next(iter(given))), "not for a type without members"),
        )
    member = _MEMBER.of(given)
    if member:
        if len(given) > 1:
            raise BadRequest(
                "`member` asks for one member, without the parameters of a page",
                Field(joined(place, _MEMBER.name), "given together with others"),
            )
        return Part(member=member)
    return Part(
        Query(
            limit=LIMIT.of(given),
            after=AFTER.of(given),
            start=_bound(_FROM.of(given)),
            end=_bound(_TO.of(given)),
            reverse=_REVERSE.of(given),
        )
    )


def _bound(value: tuple[JsonValue, ...]) -> bytes | None:
    return jsonvalue.encode(value[0]) if value else None
