"""`crdtdb repair`: what is damaged and waits for a peer, and accepting the loss of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import Parameter

from crdtdb_server.shell.arguments import AsJson, WhoseLoss
from crdtdb_server.shell.printing import json_text, note, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["name_of", "repair"]


def repair(
    *,
    accept_loss: WhoseLoss = None,
    dry_run: Annotated[
        bool,
        Parameter(negative=(), help="With --accept-loss: say what goes, and change nothing."),
    ] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> int:
    """Show what is damaged at a replica and waits for a peer, or accept the loss of it.

    A replica finds damage itself, and has it mended by a peer that has seen all that the damaged
    records held. What no peer has, waits for ever; so do the peers, for what is written here since.
    With --accept-loss an operator ends that: all that this replica had seen in the damaged places
    is taken out, at every replica, also what others still show of it (export it there before, and
    import it again after). What was written elsewhere at the same time stays.

    Exit code 1: something waits, or cannot be given up by itself.

    For example:

        crdtdb repair
        crdtdb repair --accept-loss shop/counter/views --dry-run
        crdtdb repair --accept-loss everything
    """
    with server.client() as client:
        if accept_loss is None:
            document = client.damage()
            waiting, left = document["waiting"], document["objects"]
        else:
            document = client.accept_loss(accept_loss.name, dry_run=dry_run)
            waiting, left = document["lost"], len(document["refused"])
    if json:
        print_json(document)
        return 1 if left else 0
    for wait in waiting:
        for line in _lines(wait):
            print(line)
    if accept_loss is None:
        records = document["records"]
        print(f"{left} objects wait to be mended, {records} records" if left else "nothing waits")
        return 1 if left else 0
    for wait in document["refused"]:
        note(f"{name_of(wait)} stays: {wait['refusal']}")
    would = "would be given up" if dry_run else "were given up"
    print(f"{document['records']} damaged records of {document['objects']} objects {would}")
    return 1 if left else 0


def name_of(wait: dict[str, Any]) -> str:
    """The object that waits; of a cut of several, what it cuts."""
    if wait["key"] is not None:
        return printable(f"{wait['bucket']}/{wait['type']}/{wait['key']}")
    names = (wait["bucket"], wait["type"], wait["prefix"] and f"{wait['prefix']}*")
    return printable("/".join(name for name in names if name))


def _lines(wait: dict[str, Any]) -> Iterator[str]:
    goes = {
        "everything": "all of it goes",
        "parts": "nothing else of it goes",
        None: "it cannot be given up by itself",
    }[wait["loses"]]
    yield f"{name_of(wait)}: {wait['records']} damaged records; {goes}"
    for part in wait["parts"]:
        yield f"  {printable(_described(part))}"
    if known_to := wait["known_to"]:
        yield f"  seen by {', '.join(map(printable, known_to))}; mended if it is sound there"
    for operations in wait["unreported"]:
        which = f"{operations['first']} to {operations['last']} of {operations['incarnation']}"
        yield f"  no other member has reported operations {which}, which may be in it"


def _described(part: dict[str, Any]) -> str:
    of = {"nothing": "a row at no address", "deletes": "what was deleted of it"}
    said = of.get(str(part["of"]), str(part["of"]))
    if "field" in part:
        said += f" {json_text(part['field'])} ({part['type']})"
    if "member" in part:
        said += f" {json_text(part['member'])}"
    return said
