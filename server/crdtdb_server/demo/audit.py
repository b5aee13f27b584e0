"""Comparing a region with the plain loop: every object, and none besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from crdtdb_client import Client
from crdtdb_server.demo.tally import ADDED, BUCKET, COMMITS, REMOVED, Tally

__all__ = ["differences"]


def differences(db: Client, tally: Tally) -> Iterator[str]:
    """What a region shows otherwise than the plain loop, one sentence each."""
    counted = {f"lines/{who}": lines for who, lines in tally.lines.items()}
    yield from _compare("counter", _values(db, "counter"), counted, _equal)
    touched = {f"paths/{who}": paths for who, paths in tally.paths.items()}
    yield from _compare("set", _members(db), touched, _equal)
    yield from _compare("register", _values(db, "register"), tally.last, _one_of)
    totals = {ADDED: tally.added, REMOVED: tally.removed}
    totals = {key: total for key, total in totals.items() if total}
    yield from _compare("gcounter", _values(db, "gcounter"), totals, _equal)
    yield from _compare("opcounter", _values(db, "opcounter"), {COMMITS: tally.commits}, _equal)


def _values(db: Client, type_name: str) -> dict[str, Any]:
    return {name.key: read.value for name, read in db.objects(BUCKET, type_name)}


def _members(db: Client) -> dict[str, set[Any]]:
    """All members of all sets: most of them come with the listing."""
    return {
        name.key: set(read.value if read.next is None else db.set(BUCKET, name.key))
        for name, read in db.objects(BUCKET, "set")
    }


def _compare(
    type_name: str,
    shown: Mapping[str, Any],
    wanted: Mapping[str, Any],
    fits: Callable[[Any, Any], bool],
) -> Iterator[str]:
    for key in sorted(shown.keys() | wanted.keys()):
        if key not in shown:
            yield f"{type_name} {key} is missing"
        elif key not in wanted:
            yield f"{type_name} {key} should not be there"
        elif not fits(shown[key], wanted[key]):
            yield f"{type_name} {key} shows {shown[key]}, the plain loop says {wanted[key]}"


def _equal(shown: Any, wanted: Any) -> bool:
    return bool(shown == wanted)


def _one_of(shown: Any, wanted: Any) -> bool:
    return shown in wanted
