"""Pages of a collection's members, read from their rows many at a time.

Rows are checked together, and decoded only if one of them says more than that its member is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import CollectionType, NestedType, OperationType, StateType
from crdtdb.jsonvalue import JsonValue
from crdtdb.kinds import in_force
from crdtdb.limits import LIMITS
from crdtdb.rows import are_settled
from crdtdb.store.base import Snapshot, Table, behind

__all__ = ["Page", "PageQuery", "range_of", "read_page"]

#: So many rows are read at once, at least: some may be of members that were removed.
_PORTION: Final = 16


class PageQuery(NamedTuple):
    """Which part of a collection: `start` ≤ member < `end` in the order of JSON values.

    Of a map: of the tails of its leaves, without their first byte.
    """

    limit: int = LIMITS.page_items_default
    #: Continue behind this position (the tail of a member, from a cursor).
    after: bytes | None = None
    #: Encoded bounds (`jsonbytes.encode`).
    start: bytes | None = None
    end: bytes | None = None
    reverse: bool = False


class Page(NamedTuple):
    """One page and, when there may be more, the position it ends at."""

    items: list[JsonValue]
    position: bytes | None


def read_page(
    snapshot: Snapshot,
    name: ObjectName,
    kind: CollectionType,
    cut: VersionVector | None,
    query: PageQuery,
) -> Page:
    """A page of a collection of which so much is cut. O(page + dead records between)."""
    start, end = range_of(name, kind, query)
    prefix_bytes = len(name.prefix)
    addresses: list[bytes] = []
    items: list[JsonValue] = []
    more = True
    while more and len(items) <= query.limit:
        most = max(query.limit + 1 - len(items), _PORTION)
        rows = snapshot.page(Table.RECORDS, start, end, most, reverse=query.reverse)
        alive, entries = _alive(kind, cut, rows, prefix_bytes)
        addresses += alive
        items += entries
        more = len(rows) == most
        if more:
            start, end = behind(rows[-1][0], start, end, reverse=query.reverse)
    if len(items) <= query.limit:
        return Page(items, None)
    return Page(items[: query.limit], addresses[query.limit - 1][prefix_bytes:])


def range_of(
    name: ObjectName, kind: StateType | OperationType, query: PageQuery
) -> tuple[bytes, bytes | None]:
    """Where the records of an object are; of a collection or map those that the query is about."""
    prefix = name.prefix
    if not isinstance(kind, CollectionType | NestedType):
        return prefix, address.after(prefix)
    members = prefix + (address.LEAF if isinstance(kind, NestedType) else address.MEMBER)
    start = members + (query.start or b"")
    end = address.after(members) if query.end is None else members + query.end
    if query.after is not None and query.reverse:
        end = min(end or query.after, prefix + query.after)
    elif query.after is not None:
        start = max(start, prefix + query.after + b"\0")
    return start, end


def _alive(
    kind: CollectionType,
    cut: VersionVector | None,
    rows: list[tuple[bytes, bytes]],
    prefix_bytes: int,
) -> tuple[Sequence[bytes], list[JsonValue]]:
    """Of rows of a collection: the addresses of members that are alive, and what a page shows."""
    if not rows:
        return [], []
    addresses, values = zip(*rows, strict=True)
    if are_settled(addresses, values) and kind.plain and cut is None:
        return addresses, address.member_values(addresses, prefix_bytes)
    lives = [
        in_force(kind, at[prefix_bytes:], live, cut)
        for (at, _), live in zip(rows, codec.decode_lives(rows), strict=True)
    ]
    alive = [(at, live) for (at, _), live in zip(rows, lives, strict=True) if kind.alive(live)]
    tails = [at[prefix_bytes:] for at, _ in alive]
    return [at for at, _ in alive], kind.entries(tails, [live for _, live in alive])
