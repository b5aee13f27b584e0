"""Which part of an object a caller asks for, with the cursor that continues it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, get_args

from crdtdb import address, jsonbytes, jsonvalue
from crdtdb.address import ObjectName
from crdtdb.answers import Order
from crdtdb.cursor import read_cursor
from crdtdb.datatype import DocumentType, NestedType, ScoredType
from crdtdb.errors import BadRequest, Field, InvalidOperation, TooLarge
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.reading import PageQuery

__all__ = [
    "ORDERS",
    "WHOLE",
    "Query",
    "below",
    "check_has_fields",
    "check_is_document",
    "check_key_start",
    "check_limit",
    "check_members",
    "check_order",
    "check_path",
    "encode_bound",
    "only_member",
]

ORDERS: Final[tuple[Order, ...]] = get_args(Order)


class Query(NamedTuple):
    """The page parameters of a read: `start` ≤ member < `end`, both encoded JSON values.

    They are scores, or ranks, when members are read in that order.
    """

    limit: int = LIMITS.page_items_default
    after: str | None = None
    start: bytes | None = None
    end: bytes | None = None
    reverse: bool = False
    order: Order = "member"
    #: Of a map: list the leaves at this field and below; None: show one nested value.
    prefix: tuple[str, ...] | None = None

    def identity(self, name: ObjectName) -> str:
        """The query without its position: what a cursor belongs to."""
        bounds = f"{(self.start or b'').hex()}-{'' if self.end is None else self.end.hex()}"
        what = f"{self.order}s" if self.prefix is None else f"leaves below {self.prefix}"
        return f"{what} {name.bucket}/{name.type}/{name.key} {bounds} {self.reverse}"

    def page(self, identity: str) -> PageQuery:
        """What to read. Raises BadRequest for a limit or cursor that does not fit."""
        position = self.position(identity)
        if self.prefix:
            return below(self.prefix)._replace(limit=self.limit, after=position)
        return PageQuery(self.limit, position, self.start, self.end, self.reverse)

    def position(self, identity: str) -> bytes | None:
        """Where to go on. Raises BadRequest for a limit or cursor that does not fit."""
        check_limit(self.limit)
        return None if self.after is None else read_cursor(identity, self.after)


WHOLE: Final = Query()


def check_limit(limit: int) -> None:
    """Refuse a page size outside 1 … LIMITS.page_items."""
    if not 1 <= limit <= LIMITS.page_items:
        raise BadRequest(
            f"`limit` is {limit}; ask for 1 to {LIMITS.page_items}",
            Field("limit", "out of range", LIMITS.page_items),
        )


def check_order(type_name: str, order: str, field: str = "order") -> None:
    """Refuse an order in which members of that type are not read."""
    if order not in ORDERS:
        known = " or ".join(ORDERS)
        raise BadRequest(f"`{field}` is {known}", Field(field, "unknown order", known))
    if order != "member" and not isinstance(type_named(type_name), ScoredType):
        raise InvalidOperation(
            f"a {type_name} has no scores; read its members in their own order",
            Field(field, "not for a type without scores", "member"),
        )


def check_key_start(start: str) -> None:
    """Refuse what no key begins with."""
    if "\0" in start or len(start.encode()) > LIMITS.key_bytes:
        raise BadRequest(
            "no key begins so: keys have no U+0000 and are bounded in length",
            Field("prefix", "no possible beginning of a key", LIMITS.key_bytes),
        )


def encode_bound(value: JsonValue, field: str, order: Order = "member") -> bytes:
    """A member to look for, or a bound of a range, encoded. Raises BadRequest or TooLarge."""
    value = jsonvalue.normalise(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if order == "score" and not is_number:
        raise BadRequest(f"`{field}` is a score, a number", Field(field, "not a number"))
    if order == "rank" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise BadRequest(f"`{field}` is a rank, counted from 0", Field(field, "not a rank", 0))
    encoded = jsonbytes.encode(value)
    if len(encoded) > LIMITS.member_bytes:
        raise TooLarge(
            f"no member takes {len(encoded)} bytes; they have at most {LIMITS.member_bytes}",
            Field(field, "too large", LIMITS.member_bytes),
        )
    return encoded


def below(path: Sequence[str]) -> PageQuery:
    """The part of a map that is a field, and what lies below it."""
    start = address.leaves_below(path)
    end = address.after(start)
    assert end is not None
    return PageQuery(start=start[1:], end=end[1:])


def check_has_fields(type_name: str, field: str) -> None:
    """Refuse `field`, which is about fields, for a type that has none."""
    if not isinstance(type_named(type_name), NestedType):
        raise InvalidOperation(
            f"a {type_name} has no fields; only a map has", Field(field, "not for this type")
        )


def check_is_document(type_name: str, field: str) -> None:
    """Refuse `field`, which is about documents, for a type that is none."""
    if not isinstance(type_named(type_name), DocumentType):
        raise InvalidOperation(
            f"a {type_name} has no other format than JSON; a text has",
            Field(field, "not for this type"),
        )


def check_path(path: object, field: str, least: int = 1) -> tuple[str, ...]:
    """The path of a field. Raises BadRequest or TooLarge, naming `field`."""
    most = LIMITS.map_depth
    parts = [part for part in path if isinstance(part, str)] if isinstance(path, list) else []
    if parts != path or not least <= len(parts) <= most:
        raise BadRequest(
            f"`{field}` is a list of {least} to {most} strings", Field(field, "no field", most)
        )
    address.check_path(parts, field)
    return tuple(parts)


def check_members(type_name: str, field: str) -> None:
    """Refuse `field`, which is about members, for a map: it has fields instead."""
    if isinstance(type_named(type_name), NestedType):
        raise InvalidOperation(
            f"a {type_name} has fields, not members; ask by `field` or `prefix`",
            Field(field, "not for this type"),
        )


def only_member(encoded: bytes) -> PageQuery:
    """The part of a collection that is one member."""
    return PageQuery(start=encoded, end=encoded + b"\0")
