"""`crdtdb conflicts`: what lost to concurrent writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Final

from cyclopts import Parameter, validators

from crdtdb.answers import Conflict
from crdtdb.limits import LIMITS
from crdtdb_server.shell.arguments import AsJson, Scope, Where
from crdtdb_server.shell.printing import (
    cell,
    json_text,
    moment,
    note,
    print_json,
    print_table,
    printable,
)
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["conflicts"]

_COLUMNS: Final = ("seen", "object", "lost", "writer", "written", "kept")


def conflicts(
    scope: Scope = Where(),  # noqa: B008 (an immutable value)
    /,
    *,
    limit: Annotated[
        int, Parameter(help="How many of the latest.", validator=validators.Number(gte=1))
    ] = LIMITS.page_items_default,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show what lost to concurrent writes, as the server saw it happen: the latest first.

    Every line is a value that was written and that nobody reads, with the value that is read
    instead. `put` brings it back, in a field `update`. Each server has a journal of its own, and
    forgets the oldest.

    For example:

        crdtdb conflicts
        crdtdb conflicts shop/register
        crdtdb conflicts shop/register/title --json
    """
    with server.client() as client:
        found = client.conflicts(scope.bucket, scope.type, scope.prefix or None)
        shown = list(islice(found, limit))
        more = next(found, None) is not None
    if json:
        for conflict in shown:
            print_json(_document(conflict))
    else:
        print_table(_COLUMNS, [row for conflict in shown for row in _rows(conflict)])
    if not shown:
        note("(nothing was seen to lose)")
    if more:
        note(f"(the latest {limit}; there are more, --limit says how many to show)")


def _document(conflict: Conflict) -> dict[str, Any]:
    """A conflict as the HTTP interface shows it."""
    return {
        "object": conflict.name._asdict(),
        **({} if conflict.field is None else {"field": list(conflict.field)}),
        "at_ms": conflict.at_ms,
        "kept": conflict.kept,
        "lost": [asdict(lost) for lost in conflict.lost],
    }


def _rows(conflict: Conflict) -> Iterator[tuple[str, ...]]:
    for lost in conflict.lost:
        yield (
            moment(conflict.at_ms),
            _place(conflict),
            cell(json_text(lost.value)),
            printable(lost.replica),
            moment(lost.at_ms),
            cell(json_text(conflict.kept)),
        )


def _place(conflict: Conflict) -> str:
    name = printable("/".join(conflict.name))
    return name if conflict.field is None else f"{name} {cell(json_text(list(conflict.field)))}"
