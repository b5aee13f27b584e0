"""`crdtdb cluster`: who belongs to the cluster."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from crdtdb_server.shell.arguments import AsJson, MemberUrl
from crdtdb_server.shell.printing import age, note, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["add", "evict", "rejoin"]


def add(member: MemberUrl, /, *, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """Ask the replica at a URL to become a member, until it answers.

    It is asked for as long as the server runs; `crdtdb status` shows it once it is a member.

    For example:

        crdtdb cluster add http://asia:7460
    """
    with server.client() as client:
        name = client.add_member(member)
    if json:
        print_json({"url": member, "replica": name})
        return
    print(f"{member} is asked" if name is None else f"{printable(name)} is a member")


def evict(
    replica: Annotated[str, Parameter(help="The member's name, as crdtdb status shows it.")],
    /,
    *,
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Say what it would change, and change nothing.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Take a member out of the cluster, so that reclaiming does not wait for it any more.

    It can be reached or not. Everybody refuses what it sends until it rejoins (`crdtdb cluster
    rejoin`, at that replica); what only it holds stays there until then, and is lost if its disk
    is. Stop a replica that shall not come back.

    For example:

        crdtdb cluster evict asia-1 --dry-run
        crdtdb cluster evict asia-1
    """
    with server.client() as client:
        answer = client.evict(replica, dry_run=dry_run)
    if json:
        print_json(answer)
        return
    name, stake, unblocks = printable(replica), answer["at_stake"], answer["unblocks"]
    print(f"{name} {'would be' if dry_run else 'is'} evicted")
    if answer["reachable"]:
        note(f"{name} can be reached: it runs, and will take no writes until it rejoins")
    heard, reported = age(stake["last_contact_ms"]), age(stake["reported_ms"])
    note(f"heard last: {heard}; reported more than before: {reported}")
    note(f"reported by it and not known to be elsewhere: {stake['events']} operations")
    note(f"more becomes stable: {unblocks['events']} operations")
    waiting = unblocks["waiting"]
    if waiting["records"]:
        note(f"waiting to be reclaimed: {waiting['records']} records, {waiting['bytes']} bytes")
    if others := unblocks["still_blocked_by"]:
        note(f"still waited for: {', '.join(map(printable, others))}")


def rejoin(*, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """Take the replica that is asked back into the cluster, which evicted it.

    It goes on under a new identity. What it wrote in between goes to the others, and what they
    deleted goes here too.
    """
    with server.client() as client:
        incarnation = client.rejoin()
    if json:
        print_json({"incarnation": incarnation})
        return
    print(f"rejoins as {incarnation}")
