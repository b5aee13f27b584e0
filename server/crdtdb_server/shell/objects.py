"""`crdtdb get | put | update | delete | ls`: objects, and what there is."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any, Final

from cyclopts import Parameter

from crdtdb.address import ObjectName
from crdtdb.answers import Order
from crdtdb.handles import Read, Written
from crdtdb.limits import LIMITS
from crdtdb_server.shell.arguments import Address, AsJson, FieldPath, Fields, Place, Value, Where
from crdtdb_server.shell.printing import (
    cell,
    json_text,
    note,
    on_terminal,
    print_json,
    print_table,
    printable,
)
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["delete", "get", "ls", "put", "update"]

#: Nobody reads a longer table on a terminal.
_ROWS_SHOWN: Final = 1_000
#: What the size of an object counts.
_PARTS: Final = {"text": "character", "list": "element", "map": "field"}


def get(
    address: Address,
    /,
    *,
    limit: Annotated[int, Parameter(help="How many members of a collection.")] = (
        LIMITS.page_items_default
    ),
    after: Annotated[
        str | None, Parameter(help="The members after these: the `next` of the page before.")
    ] = None,
    order: Annotated[Order, Parameter(help="Of what members with scores are in the order.")] = (
        "member"
    ),
    reverse: Annotated[bool, Parameter(help="From the greatest down.", negative=())] = False,
    prefix: FieldPath = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show the value of an object, or the members of a collection, one a line.

    Of a map: its value, or with `--prefix` the leaves at a field and below, one a line.

    For example:

        crdtdb get shop/counter/views
        crdtdb get shop/set/cart:42 --limit 10
        crdtdb get game/zset/scores --order rank --reverse --limit 10
        crdtdb get shop/map/cart:42 --prefix '["items"]'
    """
    with server.client() as client:
        read = client.read(
            address, limit=limit, after=after, order=order, reverse=reverse, prefix=prefix
        )
    if json:
        print_json(_document(address, read))
        return
    if not isinstance(read.value, list) or read.size is None:
        print(json_text(read.value))
    else:
        for member in read.value:
            print(json_text(member))
    _explain(read)


def put(
    address: Address,
    value: Value,
    /,
    *,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Set the value of a register, or bring a value into a max or min.

    For example:

        crdtdb put shop/register/title "Summer sale"
        crdtdb put shop/max/temperature 31.5
        crdtdb put shop/register/theme '{"colour": "red"}'
        crdtdb put shop/register/terms @terms.txt
    """
    with server.client() as client:
        written = client.update(address, [{"op": "set", "value": value}])
    _print_written(address, written, as_json=json)


def update(
    address: Address,
    op: Annotated[str, Parameter(help="The operation: increment, add, enable, …")],
    /,
    *fields: Fields,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Carry out one operation, and show the value or the size it left.

    For example:

        crdtdb update shop/counter/views increment by=5
        crdtdb update shop/set/cart:42 add value=apple
        crdtdb update shop/set/cart:42 remove values:='["apple", "pear"]'
        crdtdb update shop/flag/open enable
        crdtdb update game/zset/scores increment member=ann by=2.5
        crdtdb update shop/map/cart:42 update 'field=["items"]' 'do={"type": "set", "op": "clear"}'
    """
    with server.client() as client:
        written = client.update(address, [{"op": op, **dict(fields)}])
    _print_written(address, written, as_json=json)


def delete(
    address: Address,
    /,
    *,
    seen: Annotated[
        str | None, Parameter(help="Only what a read showed: its `seen` (get --json).")
    ] = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Remove an object, as far as the server has seen it, or as a read showed it.

    What is written at another replica at the same time stays. Deleting what does not exist is no
    error.

    For example:

        crdtdb delete shop/set/cart:42
    """
    operation = {"op": "delete"} if seen is None else {"op": "delete", "seen": seen}
    with server.client() as client:
        written = client.update(address, [operation])
    _print_written(address, written, as_json=json)


def ls(
    where: Place = Where(),  # noqa: B008 (an immutable value)
    /,
    *,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """List buckets, the types in a bucket, or the objects of a type.

    For example:

        crdtdb ls
        crdtdb ls shop
        crdtdb ls shop/set/cart:
    """
    with server.client() as client:
        if where.bucket is None:
            _print_names("bucket", ({"bucket": bucket} for bucket in client.buckets()), json)
        elif where.type is None:
            types = ({"bucket": where.bucket, "type": name} for name in client.types(where.bucket))
            _print_names("type", types, json)
        else:
            _print_objects(client.objects(where.bucket, where.type, where.prefix), json)


def _document(name: ObjectName, read: Read[Any]) -> dict[str, Any]:
    """A read as the HTTP interface shows it."""
    document = {**name._asdict(), "value": read.value, "exists": read.exists}
    parts = {
        "seen": read.seen,
        "size": read.size,
        "next": read.next,
        "also": read.also or None,
        "expires_at_ms": read.expires_at_ms,
    }
    return document | {part: value for part, value in parts.items() if value is not None}


def _explain(read: Read[Any]) -> None:
    """What the value alone does not say."""
    if not read.exists:
        other = f"; the key exists as {', '.join(read.also)}" if read.also else ""
        note(f"(does not exist{other})")
    if read.expires_at_ms is not None:
        note(f"(expires at {read.expires_at_ms}, ms since 1970)")
    if read.next is not None:
        note(f"({len(read.value)} of {read.size} members; go on with --after {read.next})")


def _print_written(address: ObjectName, written: Written, *, as_json: bool) -> None:
    if as_json:
        left = {"value": written.value} if written.size is None else {"size": written.size}
        print_json({**left, "changed": written.changed})
        return
    if written.size is None:
        print(json_text(written.value))
    else:
        part = _PARTS.get(address.type, "member")
        print(f"{written.size} {part}" if written.size == 1 else f"{written.size} {part}s")
    if not written.changed:
        note("(nothing changed)")


def _print_names(what: str, documents: Iterable[dict[str, str]], as_json: bool) -> None:
    for document in documents:
        if as_json:
            print_json(document)
        else:
            print(printable(document[what]))


def _print_objects(objects: Iterable[tuple[ObjectName, Read[Any]]], as_json: bool) -> None:
    if as_json:
        for name, read in objects:
            print_json(_document(name, read))
        return
    rows = ((printable(name.key), *_cells(read)) for name, read in objects)
    if not on_terminal():
        print_table((), rows)
        return
    shown = list(islice(rows, _ROWS_SHOWN))
    columns = ("key", "value", "members")
    print_table(columns[: max(map(len, shown), default=0)], shown)
    if next(rows, None) is not None:
        note(f"(the first {_ROWS_SHOWN}; name more of the key, or use a pipe to get all)")


def _cells(read: Read[Any]) -> tuple[str, ...]:
    text = cell(json_text(read.value))
    return (text,) if read.size is None or not on_terminal() else (text, str(read.size))
