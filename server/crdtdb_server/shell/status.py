"""`crdtdb status`: the cluster as one replica sees it."""

from __future__ import annotations

from typing import Any

from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import age, moment, note, print_json, print_table, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["status"]


def status(*, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """Show the cluster as a replica sees it: who is there, and who lags.

    For each member: when it was heard last; when this replica had last all that the member had;
    how many operations it has not reported yet; how far its clock is off.
    """
    with server.client() as client:
        cluster = client.cluster()
    if json:
        print_json(cluster)
        return
    me = cluster["self"]
    region = f" in {me['region']}" if me["region"] else ""
    print(f"{me['replica']}{region}, cluster {cluster['cluster']}: {me['state']}")
    columns = ("replica", "region", "url", "link", "heard", "level", "lacks", "clock")
    print_table(columns, (_row(member) for member in cluster["members"]))
    for gone in cluster["evicted"]:
        by = f"by {printable(gone['by'])}, {moment(gone['at_ms'])}"
        note(f"evicted: {printable(gone['replica'])} {printable(gone['url'])} {by}")
    if me["state"] == "evicted":
        note("this replica was evicted and takes no writes; back with: crdtdb cluster rejoin")
    for peer_url in cluster["stability"]["unmet_peers"]:
        note(f"not met yet: {peer_url}: {cluster['troubles'].get(peer_url, 'no answer yet')}")
    for blocker in cluster["stability"]["blocked_by"]:
        lacks = f"{blocker['replica']} has not reported {blocker['events']} operations"
        note(f"not stable yet: {lacks}; heard more from it: {age(blocker['reported_ms'])}")
    waiting = cluster["stability"]["waiting"]
    if waiting["records"]:
        note(f"reclaiming waits for that: {waiting['records']} records, {waiting['bytes']} bytes")


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
