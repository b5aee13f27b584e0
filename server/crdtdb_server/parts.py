"""Which part of an object a read asks for: a page of it, or one member or field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from crdtdb.answers import Order
from crdtdb.datatype import ScoredType
from crdtdb.errors import BadRequest, Field, InvalidOperation, joined
from crdtdb.jsonvalue import JsonValue
from crdtdb.operations import type_named
from crdtdb.query import (
    ORDERS,
    WHOLE,
    Query,
    check_has_fields,
    check_is_document,
    check_members,
    check_order,
    encode_bound,
)
from crdtdb_server.parameters import (
    AFTER,
    LIMIT,
    Base64,
    Boolean,
    Choice,
    FieldPath,
    Json,
    parameters,
)

__all__ = ["PART_PARAMETERS", "Part", "part_of"]

_FROM: Final = Json("from", "The least member of the page (or score, or rank)")
_TO: Final = Json("to", "The page ends before this member (or score, or rank)")
_REVERSE: Final = Boolean("reverse", "From the greatest member down")
_ORDER: Final = Choice(
    "order", "Of what the members of a zset are in the order; else that of members", ORDERS
)
_MEMBER: Final = Json("member", "Ask for one member only")

_FORMAT: Final = Choice("format", "How a text is shown: as an update of a Yjs document", ("yjs",))
_SINCE: Final = Base64("since", "What that document lacks which has this state vector")

_FIELD: Final = FieldPath("field", "Ask for one field of a map only", 1)
_PREFIX: Final = FieldPath("prefix", "List the leaves of a map at this field and below", 0)

#: What goes with one of these only.
_OF_DOCUMENTS: Final = parameters(_FORMAT, _SINCE)
_OF_FIELDS: Final = parameters(_FIELD, _PREFIX)
_OF_MEMBERS: Final = parameters(_MEMBER, _FROM, _TO, _REVERSE)
PART_PARAMETERS: Final = parameters(
    LIMIT, AFTER, _FROM, _TO, _REVERSE, _ORDER, _MEMBER, _FIELD, _PREFIX, _FORMAT, _SINCE
)


class Part(NamedTuple):
    """A page of an object (or all of it), one member or field, or what a document lacks."""

    query: Query = WHOLE
    #: The member asked for, alone in a tuple; empty for a page.
    member: tuple[JsonValue, ...] = ()
    #: The field asked for, of a map.
    field: tuple[str, ...] | None = None
    #: How far somebody has got who wants the rest of a text, as an update; None: it is read whole.
    since: bytes | None = None

    def is_ranked(self, type_name: str) -> bool:
        """Does it take a ranking to read it?"""
        if self.member:
            return isinstance(type_named(type_name), ScoredType)
        return self.query.order != "member"


_ALL: Final = Part()


def part_of(type_name: str, given: Mapping[str, Any], place: str = "") -> Part:
    """The part that parameters ask for; they have been read, and stand at `place`.

    Raises BadRequest or InvalidOperation for those that do not go together, or with the type.
    """
    if not given:
        return _ALL
    if of_documents := [parameter for parameter in given if parameter in _OF_DOCUMENTS]:
        return _difference(type_name, given, joined(place, of_documents[0]))
    if not type_named(type_name).collection:
        raise InvalidOperation(
            f"a {type_name} has no members; read it whole",
            Field(joined(place, next(iter(given))), "not for a type without members"),
        )
    for parameter in given:
        if parameter in _OF_FIELDS:
            check_has_fields(type_name, joined(place, parameter))
        elif parameter in _OF_MEMBERS:
            check_members(type_name, joined(place, parameter))
    for parameter in (_MEMBER.name, _FIELD.name):
        if parameter in given and len(given) > 1:
            raise BadRequest(
                f"`{parameter}` asks for one {parameter}, without the parameters of a page",
                Field(joined(place, parameter), "given together with others"),
            )
    if _MEMBER.name in given or _FIELD.name in given:
        return Part(member=_MEMBER.of(given), field=_FIELD.of(given))
    order = _order(type_name, given, place)
    return Part(
        Query(
            limit=LIMIT.of(given),
            after=AFTER.of(given),
            start=_bound(_FROM, given, order, place),
            end=_bound(_TO, given, order, place),
            reverse=_REVERSE.of(given),
            order=order,
            prefix=_PREFIX.of(given),
        )
    )


def _difference(type_name: str, given: Mapping[str, Any], field: str) -> Part:
    check_is_document(type_name, field)
    if _FORMAT.name not in given or not given.keys() <= _OF_DOCUMENTS.keys():
        raise BadRequest(
            "a text as Yjs is asked for by `format=yjs`, with `since` or without, and nothing else",
            Field(field, "not together with others, or without `format`"),
        )
    return Part(since=_SINCE.of(given))


def _order(type_name: str, given: Mapping[str, Any], place: str) -> Order:
    word = _ORDER.of(given)
    order = next((order for order in ORDERS if order == word), ORDERS[0])
    check_order(type_name, order, joined(place, _ORDER.name))
    return order


def _bound(parameter: Json, given: Mapping[str, Any], order: Order, place: str) -> bytes | None:
    value = parameter.of(given)
    return encode_bound(value[0], joined(place, parameter.name), order) if value else None
