"""`crdtdb verify`: is what a replica holds what was written, and what another one shows?"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.comparing import Answer, Ask, Difference, Entry, Question, Unsettled, find_difference
from crdtdb.operations import type_named
from crdtdb_client import Client
from crdtdb_server.shell.arguments import AsJson, OtherUrl
from crdtdb_server.shell.printing import json_text, note, on_terminal, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["verify"]

#: How often to ask again while the two have not seen the same, and how long to wait in between.
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.5


def verify(
    *, against: OtherUrl = None, server: Server = DEFAULT_SERVER, json: AsJson = False
) -> int:
    """Look for damage in a replica's store, or for differences from another replica.

    Alone, it looks at every row: is it what was written, and does it agree with the others? With
    --against, it compares digests of ranges, which takes a few requests however much there is, and
    names the first object that differs, its first member that does, and what is at either side.
    Only replicas that have seen the same operations can differ: while one is behind, it says so.

    Exit code 1: there is damage, a difference, or no way to tell.

    For example:

        crdtdb verify
        crdtdb verify --against http://us:7460
    """
    if against is None:
        return _look_for_damage(server, as_json=json)
    return _compare(server, against, as_json=json)


# -- damage ---------------------------------------------------------------------------------------


def _look_for_damage(server: Server, *, as_json: bool) -> int:
    rows, damage = 0, []
    with server.client() as client:
        after = None
        while True:
            portion = client.verify(after)
            rows += portion["rows"]
            damage += portion["damage"]
            if on_terminal() and not as_json:
                print(f"\r{rows} rows", end="", flush=True)
            if (after := portion.get("next")) is None:
                break
    if as_json:
        print_json({"rows": rows, "damage": damage})
        return 1 if damage else 0
    if on_terminal():
        print("\r", end="")
    for one in damage:
        print(f"damaged: {one['kind']} {printable(one['where'])}: {one['reason']}")
    print(f"{rows} rows looked at: {len(damage)} damaged" if damage else f"{rows} rows are sound")
    if damage:
        note("the replica looks for that itself, and has it mended by a peer: crdtdb status")
    return 1 if damage else 0


# -- differences ----------------------------------------------------------------------------------


class _Comparison:
    """Two replicas, asked until they have seen the same."""

    def __init__(self, mine: Ask, theirs: Ask) -> None:
        self._mine = mine
        self._theirs = theirs

    def difference(self, name: ObjectName | None = None) -> Difference | None:
        """Raises Unsettled if they never stop long enough."""
        attempts = _ATTEMPTS
        while True:
            try:
                return find_difference(self._mine, self._theirs, name)
            except Unsettled:
                attempts -= 1
                if not attempts:
                    raise
                time.sleep(_PAUSE_S)


def _compare(server: Server, against: str, *, as_json: bool) -> int:
    with ExitStack() as stack:
        here = stack.enter_context(server.client())
        there = stack.enter_context(replace(server, url=against).client())
        cluster = here.about()["cluster"]
        comparison = _Comparison(partial(_ask, here, cluster), partial(_ask, there, cluster))
        try:
            found = comparison.difference()
        except Unsettled as unsettled:
            return _say_unsettled(unsettled, against, as_json=as_json)
        within = None
        if found is not None and found.mine and found.theirs and _has_records(found.start):
            try:
                within = comparison.difference(address.name_of(found.start))
            except Unsettled:
                within = None  # the object is named, at least
    return _say(found, within, against, as_json=as_json)


def _ask(client: Client, cluster: str, question: Question) -> Answer:
    return client.digest_ranges(question, cluster)


def _has_records(prefix: bytes) -> bool:
    return type_named(address.name_of(prefix).type).collection


def _say_unsettled(unsettled: Unsettled, against: str, *, as_json: bool) -> int:
    here, there = _lacking(unsettled.mine, unsettled.theirs)
    if as_json:
        print_json({"verdict": "unsettled", "missing_here": here, "missing_there": there})
        return 1
    print("they show different data, but have not seen the same, so that is no verdict yet")
    if here:
        print(f"this replica lacks {here} operations that {against} has seen")
    if there:
        print(f"{against} lacks {there} operations that this replica has seen")
    return 1


def _lacking(mine: VersionVector, theirs: VersionVector) -> tuple[int, int]:
    return mine.missing(theirs), theirs.missing(mine)


def _say(
    found: Difference | None, within: Difference | None, against: str, *, as_json: bool
) -> int:
    if found is None:
        if as_json:
            print_json({"verdict": "equal"})
        else:
            print(f"equal: {against} shows the same")
        return 0
    here, there = _shown(found.mine), _shown(found.theirs)
    part = _part(within)
    if as_json:
        print_json(
            {
                "verdict": "different",
                "from": _place(found.start),
                "to": _place(found.end),
                "here": here,
                "there": there,
                "part": part,
            }
        )
        return 1
    print("different: both have seen the same operations, and do not show the same data")
    print(f"first difference: {_range(found)}")
    print(f"  here:  {_words(found.mine)}")
    print(f"  there: {_words(found.theirs)}")
    if part is not None and within is not None:
        named = {name: part[name] for name in ("field", "type", "member") if name in part}
        print(f"first difference in it: {json_text(named)}")
        print(f"  here:  {_words(within.mine)}")
        print(f"  there: {_words(within.theirs)}")
    return 1


def _shown(entry: Entry | None) -> dict[str, Any] | None:
    return None if entry is None else {"size": entry.size, "digest": f"{entry.digest:032x}"}


def _words(entry: Entry | None) -> str:
    if entry is None:
        return "does not exist"
    return f"size {entry.size}, digest {entry.digest:032x}"


def _range(found: Difference) -> str:
    if found.start == found.end:
        return _place(found.start)
    return f"from {_place(found.start)} to {_place(found.end)}"


def _place(at: bytes) -> str:
    """An address as BUCKET/TYPE/KEY, as far as it goes."""
    names = at.removeprefix(address.DATA).split(b"\0")[:3]
    return printable("/".join(name.decode(errors="replace") for name in names))


def _part(within: Difference | None) -> dict[str, Any] | None:
    """Which member or field of an object differs, and at which side it is."""
    if within is None or within.start != within.end:
        return None
    tail = address.split_object(within.start)[1]
    part: dict[str, Any] = {}
    if tail.startswith(address.LEAF):
        path, part["type"], tail = address.leaf_of(tail)
        part["field"] = list(path)
    if tail.startswith(address.MEMBER):
        part["member"] = address.member_value(tail)
    return part | {"here": _shown(within.mine), "there": _shown(within.theirs)}
