"""`crdtdb watch`: what changes, while it changes."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Annotated, Any, Final

from cyclopts import Parameter

from crdtdb.answers import LEFT_OUT, Event
from crdtdb.errors import Unavailable
from crdtdb_client import Client, Unreachable
from crdtdb_server.shell.arguments import AsJson, Scope, Where
from crdtdb_server.shell.printing import cell, json_text, note, on_terminal, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["watch"]

#: Between two attempts to go on at a server that does not answer.
_PAUSE_S: Final = 0.5

_DIM, _THERE, _GONE, _PLAIN = "\033[2m", "\033[32m", "\033[31m", "\033[0m"


def watch(
    scope: Scope = Where(),  # noqa: B008 (an immutable value)
    /,
    *,
    since: Annotated[
        str, Parameter(help="Where to begin: `now`, `start`, or the cursor of a change seen.")
    ] = "now",
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show what changes, one change a line, until interrupted.

    A server that stops is waited for: watching goes on where it was, and nothing is left out.

    For example:

        crdtdb watch
        crdtdb watch shop/set
        crdtdb watch shop/counter/views --since start --json
    """
    try:
        with server.client(on_behind="continue") as client:
            _follow(client, scope, since, as_json=json)
    except KeyboardInterrupt:
        return


def _follow(client: Client, scope: Where, since: str, *, as_json: bool) -> None:
    # Not `now` itself: it would be another moment after each interruption.
    cursor = client.now() if since == "now" else None if since == "start" else since
    key = scope.prefix or None
    while True:
        changes = client.changes(scope.bucket, scope.type, key, since=cursor, include_value=True)
        try:
            for event in changes:
                _print_change(event, as_json=as_json)
                cursor = event.cursor
        except (Unreachable, Unavailable) as error:
            note(f"({error}; watching goes on when it answers)")
            _wait_for(client)


def _wait_for(client: Client) -> None:
    """Wait until the server serves again."""
    while True:
        time.sleep(_PAUSE_S)
        try:
            client.now()
        except (Unreachable, Unavailable):
            continue
        return


def _print_change(event: Event, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(event))
    elif on_terminal():
        _print_coloured(event)
    else:
        print("\t".join((printable("/".join(event.name)), *_cells(event))))
    # Whoever reads a pipe wants it now, too.
    sys.stdout.flush()


def _print_coloured(event: Event) -> None:
    """When, what, and what became of it: green what is there, red what is gone."""
    name = printable("/".join(event.name))
    shown = "  ".join(map(cell, _cells(event)))
    colour = _GONE if event.deleted else _THERE
    print(f"{_DIM}{time.strftime('%H:%M:%S')}{_PLAIN}  {name}  {colour}{shown}{_PLAIN}")


def _document(event: Event) -> dict[str, Any]:
    """A change as the HTTP interface shows it."""
    document = {**event.name._asdict(), "deleted": event.deleted, "cursor": event.cursor}
    field = LEFT_OUT if event.field is None else list(event.field)
    parts = {"field": field, "member": event.member, "value": event.value}
    return document | {part: value for part, value in parts.items() if value is not LEFT_OUT}


def _cells(event: Event) -> tuple[str, ...]:
    if event.field is not None:
        return (json_text(list(event.field)), *_cells(replace(event, field=None)))
    if event.member is not LEFT_OUT:
        return ("-" if event.deleted else "+", json_text(event.member))
    if event.deleted or event.value is LEFT_OUT:
        return ("deleted" if event.deleted else "changed",)
    return (json_text(event.value),)
