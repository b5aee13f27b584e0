"""Which part of an object a read asks for: a page of its members, or one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from crdtdb.answers import Order
from crdtdb.datatype import ScoredType
from crdtdb.errors import BadRequest, Field, InvalidOperation, joined
from crdtdb.jsonvalue import JsonValue
from crdtdb.operations import type_named
from crdtdb.query import ORDERS, WHOLE, Query, check_order, encode_bound
from crdtdb_server.parameters import AFTER, LIMIT, Boolean, Choice, Json, parameters

__all__ = ["PART_PARAMETERS", "Part", "part_of"]

_FROM: Final = Json("from", "The least member of the page (or score, or rank)")
_TO: Final = Json("to", "The page ends before this member (or score, or rank)")
_REVERSE: Final = Boolean("reverse", "From the greatest member down")
_ORDER: Final = Choice(
    "order", "Of what the members of a zset are in the order; else that of members", ORDERS
)
_MEMBER: Final = Json("member", "Ask for one member only")

PART_PARAMETERS: Final = parameters(LIMIT, AFTER, _FROM, _TO, _REVERSE, _ORDER, _MEMBER)


class Part(NamedTuple):
    """A page of an object (or all of it), or one member."""

    query: Query = WHOLE
    #: The member asked for, alone in a tuple; empty for a page.
    member: tuple[JsonValue, ...] = ()

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
    order = _order(type_name, given, place)
    return Part(
        Query(
            limit=LIMIT.of(given),
            after=AFTER.of(given),
            start=_bound(_FROM, given, order, place),
            end=_bound(_TO, given, order, place),
            reverse=_REVERSE.of(given),
            order=order,
        )
    )


def _order(type_name: str, given: Mapping[str, Any], place: str) -> Order:
    word = _ORDER.of(given)
    order = next((order for order in ORDERS if order == word), ORDERS[0])
    check_order(type_name, order, joined(place, _ORDER.name))
    return order


def _bound(parameter: Json, given: Mapping[str, Any], order: Order, place: str) -> bytes | None:
    value = parameter.of(given)
    return encode_bound(value[0], joined(place, parameter.name), order) if value else None
