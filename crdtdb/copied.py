"""Copied: rows of another replica, as they are in its store, taken over by one that holds nothing.

Joined with nothing a record is what it is: its bytes stay as they came, but for its place in the
sequence. Each is checked like everything that a peer sends. Most can be checked in bulk: *plain*
ones, which say nothing but one operation in force, on an object that is one record or on a member.
All others are decoded and joined one by one. What records come to, in heads, is added up here, and
not taken from anybody. Operations of op-based objects have an order that is not that of their
addresses: they are put aside until all is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import groupby
from operator import itemgetter, xor
from typing import Final, NamedTuple, TypeAlias

import msgspec

from crdtdb import address, codec
from crdtdb.admission import admit_together, inspect, is_judged_alone
from crdtdb.causal import VersionVector
from crdtdb.codec import Settled
from crdtdb.datatype import CollectionType, ScalarType, StateType
from crdtdb.draft import Draft
from crdtdb.errors import PeerError
from crdtdb.guarded import is_beside_cut
from crdtdb.head import FRESH, Head
from crdtdb.kinds import log_of
from crdtdb.record import Record
from crdtdb.store.base import KEY_BYTES, Batch, Table
from crdtdb.types import CATALOGUE

__all__ = ["Taken", "take_over"]

_Row: TypeAlias = tuple[bytes, bytes]
#: By their names as in addresses, the types of which records may be plain.
_PLAIN: Final[dict[bytes, StateType]] = {
    name.encode(): kind
    for name, kind in CATALOGUE.items()
    if isinstance(kind, ScalarType | CollectionType) and is_judged_alone(kind)
}
_OWN: Final = address.OWN[0]
_MEMBER: Final = address.MEMBER[0]


class Taken(NamedTuple):
    """What is to be written, and what is left to do."""

    batch: Batch
    #: The last place of the sequence that was given out.
    sequence: int
    #: What a donor must have seen who holds these records.
    needs: VersionVector
    #: Records of op-based objects: address, place in the donor's sequence, and record.
    logs: list[tuple[bytes, int, bytes]]


class _Run(NamedTuple):
    """Plain records of one object."""

    prefix: bytes
    kind: StateType
    #: Which they are: from one up to, without it, another.
    start: int
    end: int


class _Plain(NamedTuple):
    """Plain records, in the order of their addresses."""

    addresses: list[bytes]
    bodies: list[bytes]
    settled: list[Settled]
    runs: list[_Run]


def take_over(draft: Draft, rows: Sequence[_Row], sequence: int) -> Taken:
    """Take over rows, in the order of their addresses, by a draft in which nothing is yet.

    `sequence` is the last place that was given out here. O(rows). Raises PeerError for what no
    honest replica holds.
    """
    try:
        return _take_over(draft, rows, sequence)
    except codec.NewerVersion as error:
        raise PeerError("newer-version", str(error)) from error
    except (ValueError, msgspec.ValidationError) as error:
        raise PeerError("bad-record", str(error)) from error


def _take_over(draft: Draft, rows: Sequence[_Row], sequence: int) -> Taken:
    if max((len(at) for at, _ in rows), default=0) > KEY_BYTES:
        raise ValueError("an address is too long")
    plain, others = _sorted_out(rows, codec.sound_bodies(rows))
    needs: dict[int, int] = {}
    logs: list[tuple[bytes, int, bytes]] = []
    for at, row in others:
        data = codec.row_record(at, row)
        record, needed = inspect(at, data)
        _raise(needs, needed.items())
        if log_of(at):
            logs.append((at, int.from_bytes(row[:8], "big"), data))
        else:
            draft.join(at, record, draft.seen)
    heads = draft.heads_said([run.prefix for run in plain.runs])
    plain = _join_cut(draft, plain, heads, needs)
    admit_together(draft, (at for at, _ in others))
    batch, _, sequence = draft.batch(sequence)
    _add(draft, plain, batch, needs, sequence)
    return Taken(batch, sequence + len(plain.addresses), VersionVector(needs), logs)


def _raise(needs: dict[int, int], entries: Iterable[tuple[int, int]]) -> None:
    for incarnation, counter in entries:
        if counter > needs.get(incarnation, 0):
            needs[incarnation] = counter


# -- sorting out ----------------------------------------------------------------------------------


def _sorted_out(rows: Sequence[_Row], bodies: Sequence[bytes]) -> tuple[_Plain, list[_Row]]:
    """Which rows are plain, and which are not? Raises ValueError."""
    plain = _Plain([], [], [], [])
    others: list[_Row] = []
    addresses, runs = plain.addresses, plain.runs
    prefix, kind, start = b"", None, 0
    for entry, body, one in zip(rows, bodies, codec.settled(bodies), strict=True):
        at = entry[0]
        if not prefix or not at.startswith(prefix):
            if kind is not None and len(addresses) > start:
                runs.append(_Run(prefix, kind, start, len(addresses)))
            start = len(addresses)
            prefix, kind = _object_at(at)
        is_plain = kind is not None and one is not None and _is_plain(kind, at, len(prefix))
        if not is_plain or one is None or is_beside_cut(one[2]):
            others.append(entry)
            continue
        addresses.append(at)
        plain.bodies.append(body)
        plain.settled.append(one)
    if kind is not None and len(addresses) > start:
        runs.append(_Run(prefix, kind, start, len(addresses)))
    return plain, others


def _object_at(at: bytes) -> tuple[bytes, StateType | None]:
    """The prefix of the object at an address, and its type if records of it may be plain.

    Raises ValueError.
    """
    if address.is_cut(at):
        return at, None
    prefix, type_name = address.check_object(at)
    return prefix, _PLAIN.get(type_name)


def _is_plain(kind: StateType, at: bytes, prefix_bytes: int) -> bool:
    if isinstance(kind, CollectionType):
        return len(at) > prefix_bytes and at[prefix_bytes] == _MEMBER
    return len(at) == prefix_bytes + 1 and at[prefix_bytes] == _OWN


# -- plain ones -----------------------------------------------------------------------------------


def _join_cut(
    draft: Draft, plain: _Plain, heads: Mapping[bytes, Head], needs: dict[int, int]
) -> _Plain:
    """Join the records of objects of which something is cut; returns all others."""
    if all(head.cut is None for head in heads.values()):
        return plain
    left = _Plain([], [], [], [])
    for prefix, kind, start, end in plain.runs:
        addresses, settled = plain.addresses[start:end], plain.settled[start:end]
        if prefix not in heads or heads[prefix].cut is None:
            first = len(left.addresses)
            left.addresses.extend(addresses)
            left.bodies.extend(plain.bodies[start:end])
            left.settled.extend(settled)
            left.runs.append(_Run(prefix, kind, first, len(left.addresses)))
            continue
        _check(prefix, kind, addresses, settled)
        for at, (incarnation, counter, payload) in zip(addresses, settled, strict=True):
            context = VersionVector.up_to(incarnation, counter)
            _raise(needs, context.items())
            draft.join(at, Record({(incarnation, counter): payload}, context), draft.seen)
    return left


def _add(draft: Draft, plain: _Plain, batch: Batch, needs: dict[int, int], sequence: int) -> None:
    """Check plain records, and add what they come to to a batch. Raises ValueError."""
    addresses, settled = plain.addresses, plain.settled
    digests = codec.settled_digests(addresses, plain.bodies)
    said = draft.heads_said([run.prefix for run in plain.runs])
    heads = batch.setdefault(Table.HEADS, {})
    for kind, runs in groupby(plain.runs, key=itemgetter(1)):
        if isinstance(kind, CollectionType):
            for prefix, _, start, end in runs:
                own, place = settled[start:end], sequence + end
                shown = _check(prefix, kind, addresses[start:end], own)
                digest = reduce(xor, (digests[start + index] for index in shown), 0)
                head = _raised(said.get(prefix, FRESH), own, len(shown), digest, place)
                heads[prefix] = head.encode()
            continue
        ones = list(runs)  # of one record each
        own = settled[ones[0].start : ones[-1].end]
        kind.check_each(own)
        shows = type(kind).alive is StateType.alive
        for (prefix, _, start, end), one in zip(ones, own, strict=True):
            place, digest = sequence + end, digests[start]
            if shows and prefix not in said:
                heads[prefix] = Head.encode_first(place, one[0], one[1], digest)
                continue
            alive = shows or kind.alive({one[:2]: one[2]})
            former = said.get(prefix, FRESH)
            head = _raised(former, [one], alive, digest if alive else 0, place)
            heads[prefix] = head.encode()
    _raise(needs, ((incarnation, counter) for incarnation, counter, _ in settled))
    numbers, packed = codec.pack_rows(sequence + 1, addresses, plain.bodies)
    batch.setdefault(Table.RECORDS, {}).update(zip(addresses, packed, strict=True))
    batch.setdefault(Table.SEQUENCE, {}).update(zip(numbers, addresses, strict=True))


def _raised(
    former: Head, settled: Sequence[Settled], size: int, digest: int, sequence: int
) -> Head:
    """A head with some records more, of which so many show."""
    context = VersionVector.of((incarnation, counter) for incarnation, counter, _ in settled)
    return Head(
        former.size + size,
        sequence,
        former.context.join(context),
        None,
        former.digest ^ digest,
        former.expires_at_ms,
        former.timed,
    )


def _check(
    prefix: bytes, kind: StateType, addresses: Sequence[bytes], settled: Sequence[Settled]
) -> Sequence[int]:
    """Which records of an object show something to users? Raises ValueError for a bad one."""
    if isinstance(kind, CollectionType):
        address.check_members([at[len(prefix) :] for at in addresses])
    kind.check_each(settled)
    if type(kind).alive is StateType.alive:
        return range(len(settled))
    alive = (kind.alive({(inc, counter): payload}) for inc, counter, payload in settled)
    return [index for index, shows in enumerate(alive) if shows]
