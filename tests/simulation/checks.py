"""What must hold, one function per promise. Each raises `Violation` with its own name.

They judge plain values, so that `test_checks.py` can hand each of them states that are wrong: a
check that cannot fail proves nothing. What is a promise to users is judged by `checkers`, on the
one moment that there is; what only the inside of a replica can be held to is here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from checkers.bounds import Sample, bounds
from checkers.convergence import State, convergence, wrong_reads
from checkers.durability import Found, Held, durability
from checkers.violation import raise_first
from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector, format_dot
from crdtdb.datatype import NestedType, StateType
from crdtdb.guarded import has_beside_cut
from crdtdb.kinds import type_of
from crdtdb.operations import type_named
from crdtdb.reading import Digest, PageQuery, Reading
from crdtdb.record import Record
from crdtdb.replication.staging import COPY_ROW
from crdtdb.rows import scan_records
from crdtdb.store.base import Store, Table
from maps import show_map
from oracle.checks import Violation
from oracle.events import Object, Shown
from simulation.ledger import Ledger

__all__ = [
    "check_disk",
    "check_equal",
    "check_fenced",
    "check_folded",
    "check_growth",
    "check_held",
    "check_let_go",
    "check_news",
    "check_reclaimed",
    "check_shown",
    "check_stable",
    "shown",
]

#: Small, so that collections are read in several pages.
_PAGE: Final = 3
_NOTHING_SHOWN: Final = Shown("", False, None)


def shown(reading: Reading, name: Object) -> Shown:
    """What a read shows of an object, in the specification's terms."""
    full = ObjectName(*name)
    head = reading.head(full.prefix)
    if isinstance(type_named(full.type), NestedType):
        return show_map(reading, full, _PAGE)
    if not type_named(full.type).collection:
        value = reading.value(full, head)
        size = len(value) if type_named(full.type).sized and isinstance(value, str) else None
        return Shown.value(value, head.exists)._replace(size=size)
    page = reading.page(full, head, PageQuery(_PAGE))
    members = page.items
    while page.position is not None:
        page = reading.page(full, head, PageQuery(_PAGE, page.position))
        members = members + page.items
    return Shown.members(members)._replace(exists=head.exists, size=head.size)


def check_shown(name: Object, expected: Shown, actual: Shown) -> None:
    """A read shows what the causal history says: value, existence and size, of a map the leaves."""
    raise_first(wrong_reads(name, expected, actual))


def check_growth(before: VersionVector, after: VersionVector) -> None:
    """What a running replica has seen only grows."""
    raise_first(durability([Held("it", before), Held("it", after)]))


def check_news(ledger: Ledger, before: VersionVector, after: VersionVector) -> None:
    """What became visible was issued, whole transactions at a time, each after its past."""
    for incarnation, counter in after.items():
        for number in range(before.get(incarnation) + 1, counter + 1):
            dot = incarnation, number
            issued = ledger.issued(dot)
            if issued is None:
                raise Violation("thin-air", f"{format_dot(dot)} was never issued")
            if issued.last > counter:
                raise Violation(
                    "atomicity", f"{format_dot(dot)} is visible without the rest, to {issued.last}"
                )
            if not after.includes(issued.past):
                raise Violation(
                    "causality", f"{format_dot(dot)} had seen {issued.past}, here is only {after}"
                )


def check_disk(known: VersionVector, found: VersionVector) -> None:
    """After a crash the disk holds all that was answered or passed on before."""
    raise_first(durability([Held("it", known), Found("it", found)]))


def check_stable(stable: VersionVector, members: Iterable[VersionVector]) -> None:
    """What a replica takes for stable has been seen by every member it knows."""
    for seen in members:
        if not seen.includes(stable):
            raise Violation("stability", f"{stable} counts as stable; a member has seen {seen}")


def check_fenced(sender: str, before: VersionVector, after: VersionVector) -> None:
    """Nothing is taken in from who is known to be evicted."""
    if before != after:
        raise Violation("fencing", f"a frame of {sender}, evicted, took {before} to {after}")


def check_held(held: int, most: int) -> None:
    """What waits for something else to arrive is bounded."""
    raise_first(bounds([Sample("it", "held pushes", held, most)]))


def check_equal(states: Mapping[str, tuple[VersionVector, Digest]], latest: VersionVector) -> None:
    """Replicas that could talk for long enough are equal, and have everything."""
    history = [State(name, seen, digest) for name, (seen, digest) in states.items()]
    raise_first(convergence(history, lambda *_: _NOTHING_SHOWN, latest))


def check_folded(store: Store, blocking: Mapping[int, int]) -> None:
    """When nothing is missing anywhere, no operation is left outside its object's base."""
    with store.snapshot() as snapshot:
        addresses = [at for _, at in snapshot.scan(Table.SEQUENCE) if not address.is_cut(at)]
    left = [at for at in addresses if address.split_object(at)[1].startswith(address.OPERATION)]
    if left or blocking:
        raise Violation("folding", f"{len(left)} operations are left; members lack {blocking}")


def check_let_go(store: Store) -> None:
    """When nothing is missing anywhere, nothing is kept of what pulls and copies have brought."""
    with store.snapshot() as snapshot:
        left = sum(1 for _ in snapshot.scan(Table.STAGED))
        is_begun = snapshot.get(Table.META, COPY_ROW) is not None
    if left or is_begun:
        raise Violation(
            "staging", f"{left} rows are staged for nobody; a copy is begun: {is_begun}"
        )


def check_reclaimed(store: Store, members: Collection[int] | None = None) -> None:
    """When everything is stable, what was deleted has left nothing behind.

    But, if somebody was evicted, totals of all but the `members`: of those it may bring more.
    """
    with store.snapshot() as snapshot:
        records = dict(scan_records(snapshot, b"", None))
        heads = [prefix for prefix, _ in snapshot.scan(Table.HEADS)]
    cuts = [at for at in records if address.is_cut(at)]
    dead = [at for at, record in records.items() if _is_dead(at, record, members)]
    objects = {address.split_object(at)[0] for at in records.keys() - cuts}
    if cuts or dead or objects != set(heads):
        bare = set(heads) ^ objects
        raise Violation("reclaiming", f"left are cuts {cuts}, records {dead}, heads {bare}")


def _is_dead(at: bytes, record: Record, members: Collection[int] | None) -> bool:
    """Is nothing in force, or something that says nothing any more?"""
    if address.is_cut(at) or not record.live:
        return not record.live
    prefix, tail = address.split_object(at)
    if tail == address.EXPIRY:
        return False
    kind = type_of(prefix)
    own = kind.at(tail) if isinstance(kind, StateType) else None
    if own is None:
        return False
    if own.totals and has_beside_cut(record.live):
        return True  # a life that is over for good leaves no inventory
    if own.totals and members is not None and any(dot[0] not in members for dot in record.live):
        return False
    return bool(own.idle(record.live))
