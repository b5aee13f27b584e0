"""`crdtdb status`: the cluster as one replica sees it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter

from crdtdb_client import Client
from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import age, moment, note, print_json, print_table, printable
from crdtdb_server.shell.repair import name_of
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["status"]

#: Between two looks at a replica that is fetching.
_PAUSE_S: Final = 0.25
#: Damaged objects that are named.
_NAMED: Final = 8
#: Takes what is done and what there is to do, and draws it.
_Show: TypeAlias = Callable[[str, int, int], None]


def status(
    *,
    watch: Annotated[
        bool,
        Parameter(negative="", help="Wait until it has fetched what it lacks, with a bar."),
    ] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show the cluster as a replica sees it: who is there, and who lags.

    For each member: when it was heard last; when this replica had last all that the member had;
    how many operations it has not reported yet; how far its clock is off.
    """
    with server.client() as client:
        if watch:
            _watch(client)
        cluster = client.cluster()
        damaged = cluster["integrity"]["damaged"]
        waiting = client.damage()["waiting"] if damaged and not json else []
    if json:
        print_json(cluster)
        return
    me = cluster["self"]
    region = f" in {me['region']}" if me["region"] else ""
    print(f"{me['replica']}{region}, cluster {cluster['cluster']}: {me['state']}")
    if "progress" in me:
        note(_described(me["progress"]))
    columns = ("replica", "region", "url", "link", "heard", "level", "lacks", "clock")
    print_table(columns, (_row(member) for member in cluster["members"]))
    for line in _notes(cluster):
        note(line)
    if waiting:
        note("damaged: " + ", ".join(map(name_of, waiting[:_NAMED])) + "; see: crdtdb repair")


def _notes(cluster: dict[str, Any]) -> Iterator[str]:
    """What is not as it should be, a sentence each, and what can be done about it."""
    troubles, stability = dict(cluster["troubles"]), cluster["stability"]
    urls = {member["url"] for member in cluster["members"]}
    for gone in cluster["evicted"]:
        by = f"by {printable(gone['by'])}, {moment(gone['at_ms'])}"
        yield f"evicted: {printable(gone['replica'])} {printable(gone['url'])} {by}"
        if gone["url"] not in urls:
            troubles.pop(gone["url"], None)
    if cluster["self"]["state"] == "evicted":
        yield "this replica was evicted and takes no writes; back with: crdtdb cluster rejoin"
    if failing := cluster["self"].get("failing"):
        yield (
            f"a bug keeps this replica from {', '.join(map(printable, failing))}; "
            "it is tried again, and the server's log says why"
        )
    for url in stability["unmet_peers"]:
        yield f"not met yet: {url}: {troubles.pop(url, 'no answer yet')}"
    for member in cluster["members"]:
        if not member["self"] and not member["reachable"]:
            troubles.pop(member["url"], None)  # the table has it
    for url, why in troubles.items():
        yield f"trouble with {printable(url)}: {printable(why)}"
    for blocker in stability["blocked_by"]:
        yield (
            f"deletes wait for {printable(blocker['replica'])}: it has not reported "
            f"{blocker['events']} operations; {_reported(blocker['reported_ms'])}"
        )
    waiting = stability["waiting"]
    if waiting["records"]:
        yield f"not reclaimed for that: {waiting['records']} records, {waiting['bytes']} bytes"
    integrity = cluster["integrity"]
    if found := integrity["found"]:
        mended = integrity["mended"]
        yield f"damage: {found} rows were found since the start, {mended} records were put right"
    if damaged := integrity["damaged"]:
        yield f"damaged: {damaged} records wait for a peer that has seen all they held to mend them"


def _reported(ago_ms: int | None) -> str:
    if ago_ms is None:
        return "it has reported nothing since this replica started"
    return f"it last reported more {age(ago_ms)} ago"


def _watch(client: Client) -> None:
    """Wait until the replica has its first state, and no pull under way."""
    with _bar() as show:
        while (me := client.cluster()["self"])["state"] in ("bootstrapping", "catching_up"):
            if "progress" in me:
                show(*_step(me["progress"]))
            time.sleep(_PAUSE_S)


def _step(progress: dict[str, Any]) -> tuple[str, int, int]:
    """What is being done, how much of it is done, and how much there is."""
    if progress["complete"]:
        return "joining", progress["joined"], progress["records"]
    return f"fetching from {printable(progress['donor'])}", progress["place"], progress["head"]


def _described(progress: dict[str, Any]) -> str:
    what, done, whole = _step(progress)
    share = 100 * done // whole if whole else 0
    return f"{what}: {share} %, {progress['records']} records, {progress['bytes']} bytes"


@contextmanager
def _bar() -> Iterator[_Show]:
    """A progress bar for whoever looks at a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("waiting for a donor", total=None)
        yield lambda what, done, whole: progress.update(
            task, description=what, completed=done, total=whole
        )


def _row(member: dict[str, Any]) -> tuple[str, ...]:
    name = (member["replica"], member["region"], member["url"])
    if member["self"]:
        return (*name, "this one", "", "", "", "")
    return (
        *name,
        "up" if member["reachable"] else member["trouble"] or "not tried yet",
        age(member["last_contact_ms"]),
        age(member["lag_ms"]),
        _count(member["lag_events"]),
        _offset(member["clock_offset_ms"]),
    )


def _count(operations: int | None) -> str:
    return "?" if operations is None else str(operations)


def _offset(milliseconds: int | None) -> str:
    return "?" if milliseconds is None else f"{milliseconds:+} ms"
