"""Which part of an object a caller asks for, with the cursor that continues it."""

from __future__ import annotations

from typing import Final, NamedTuple

from crdtdb import jsonvalue
from crdtdb.address import ObjectName
from crdtdb.cursor import read_cursor
from crdtdb.errors import BadRequest, Field, TooLarge
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.reading import PageQuery

__all__ = ["WHOLE", "Query", "check_key_start", "check_limit", "encode_bound", "only_member"]


class Query(NamedTuple):
    """The page parameters of a read: `start` ≤ member < `end`, both encoded JSON values."""

    limit: int = LIMITS.page_items_default
    after: str | None = None
    start: bytes | None = None
    end: bytes | None = None
    reverse: bool = False

    def identity(self, name: ObjectName) -> str:
        """The query without its position: what a cursor belongs to."""
        bounds = f"{(self.start or b'').hex()}-{'' if self.end is None else self.end.hex()}"
        return f"members {name.bucket}/{name.type}/{name.key} {bounds} {self.reverse}"

    def page(self, identity: str) -> PageQuery:
        """What to read. Raises BadRequest for a limit or cursor that does not fit."""
        check_limit(self.limit)
        position = None if self.after is None else read_cursor(identity, self.after)
        return PageQuery(self.limit, position, self.start, self.end, self.reverse)


WHOLE: Final = Query()


def check_limit(limit: int) -> None:
    """Refuse a page size outside 1 … LIMITS.page_items."""
    if not 1 <= limit <= LIMITS.page_items:
        raise BadRequest(
            f"`limit` is {limit}; ask for 1 to {LIMITS.page_items}",
            Field("limit", "out of range", LIMITS.page_items),
        )


def check_key_start(start: str) -> None:
    """Refuse what no key begins with."""
    if "\0" in start or len(start.encode()) > LIMITS.key_bytes:
        raise BadRequest(
            "no key begins so: keys have no U+0000 and are bounded in length",
            Field("prefix", "no possible beginning of a key", LIMITS.key_bytes),
        )


def encode_bound(value: JsonValue, field: str) -> bytes:
    """A member to look for, or a bound of a range, encoded. Raises BadRequest or TooLarge."""
    encoded = jsonvalue.encode(jsonvalue.normalise(value))
    if len(encoded) > LIMITS.member_bytes:
        raise TooLarge(
            f"no member takes {len(encoded)} bytes; they have at most {LIMITS.member_bytes}",
            Field(field, "too large", LIMITS.member_bytes),
        )
    return encoded


def only_member(encoded: bytes) -> PageQuery:
    """The part of a collection that is one member."""
    return PageQuery(start=encoded, end=encoded + b"\0")
