"""Everywhere a type can appear it works: each type, as an object and as a field of a map, through
each question that a door answers. The list is the catalogue: a new type is asked, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import combinations_with_replacement
from typing import Any, Final, NamedTuple

import pytest

from crdtdb import Database, address
from crdtdb.address import ObjectName
from crdtdb.answers import LEFT_OUT, Event
from crdtdb.causal import format_incarnation
from crdtdb.datatype import CollectionType, ScalarType, ScoredType, StateType
from crdtdb.errors import CallerError
from crdtdb.store.memory import MemoryStore
from crdtdb.types import CATALOGUE
from crdtdb_client import Client
from operations import Plain, all_operations, creation
from replicas import START_MS, Replica, exchange

Door = Database | Client
Opened = Callable[[MemoryStore], AbstractContextManager[Door]]

_PATH: Final = ("a", "b")


class Place(NamedTuple):
    """Where a value of a type is: an object, or a field of a map."""

    type: str
    is_field: bool
    key: str = "k"

    @property
    def name(self) -> ObjectName:
        return ObjectName("shop", "map" if self.is_field else self.type, self.key)

    @property
    def kind(self) -> Any:
        return CATALOGUE[self.type]

    @property
    def field(self) -> tuple[str, ...] | None:
        return _PATH if self.is_field else None

    def asked(self, plain: Plain) -> Plain:
        """An operation of the type, as it is asked of the object."""
        if not self.is_field:
            return plain
        return {"op": "update", "field": list(_PATH), "do": {"type": self.type, **plain}}

    def value(self, door: Door) -> Any:
        """What is read there."""
        if self.is_field:
            return door.field(self.name, _PATH).value
        return door.read(self.name).value

    def members(self, door: Door) -> set[str]:
        """Of a collection: what it consists of, as JSON text, for 1 is not true."""
        value = self.value(door) or ()  # a field that is gone has none
        is_scored = isinstance(self.kind, ScoredType)
        return {json.dumps(one["member"] if is_scored else one) for one in value}


#: A map can be no field; what nothing may remove cannot either.
PLACES: Final = [
    *(Place(name, is_field=False) for name in CATALOGUE),
    *(Place(n, is_field=True) for n, kind in CATALOGUE.items() if kind.deletable and n != "map"),
]


def _id(place: Place) -> str:
    return f"{place.type}-field" if place.is_field else place.type


every_place: Final = pytest.mark.parametrize("place", PLACES, ids=_id)


def _distinct(place: Place) -> list[Plain]:
    operations: list[Plain] = []
    for plain in all_operations(place.type):
        if plain not in operations:
            operations.append(plain)
    return [place.asked(plain) for plain in operations]


def _told(door: Door, since: str | None = None) -> list[Event]:
    return list(door.changes(since=since, follow=False, include_value=True))


def test_every_type_but_one_can_be_a_field() -> None:
    assert {p.type for p in PLACES if not p.is_field} == CATALOGUE.keys()
    assert CATALOGUE.keys() - {p.type for p in PLACES if p.is_field} == {"bcounter", "map"}


@every_place
def test_it_is_written_alone_and_in_a_transaction(door: Door, place: Place) -> None:
    first = place.asked(creation(place.type))
    written = door.update(place.name, [first])
    assert written.changed
    with door.transaction() as tx:
        tx.counter("beside", "k").increment()
        other = getattr(tx, place.name.type)("shop", "other")
        other._update(other.name, [first])
    assert tx.results[0].value == 1
    found = door.read(place.name)
    assert (found.exists, found.replica) == (True, "eu-1")
    (together,) = door.read_together([place.name])
    assert (together.value, together.exists) == (found.value, True)
    assert place.name.type in door.types("shop")
    listed = [(name.key, read.exists) for name, read in door.objects("shop", place.name.type)]
    assert listed == [("k", True), ("other", True)]


@every_place
def test_the_feed_tells_of_every_change_what_is_there_now(door: Door, place: Place) -> None:
    """Whatever the operation; and tells nothing of what changed nothing."""
    for operation in _distinct(place):
        since = door.now()
        try:
            written = door.update(place.name, [operation])
        except CallerError:
            assert _told(door, since) == []
            continue
        events = _told(door, since)
        assert {event.name for event in events} <= {place.name}
        if written.changed:
            assert events, operation
            if place.type != "map":
                assert {event.field for event in events} <= {place.field, None}
        _check_told(door, place, events)


def _check_told(door: Door, place: Place, events: list[Event]) -> None:
    """What events say is what is read now."""
    if isinstance(place.kind, CollectionType):
        members = place.members(door)
        for event in events:
            if event.member is not LEFT_OUT:
                assert event.deleted == (json.dumps(event.member) not in members)
    elif not place.kind.collection:
        for event in events:
            if not event.deleted:
                assert event.value == place.value(door)


@every_place
def test_it_is_explained_by_its_dots_writers_and_times(door: Door, place: Place) -> None:
    door.update(place.name, [place.asked(creation(place.type))])
    explanations = [door.explain(place.name)]
    if place.is_field:
        explanations.append(door.explain(place.name, field=_PATH))
    for explanation in explanations:
        assert "eu-1" in explanation["replicas"].values()
        (record,) = explanation["records"]
        (entry,) = record["entries"]
        assert entry["dot"].partition(":")[0] in explanation["replicas"]
        if place.type != "map":
            assert record.get("field") == (list(_PATH) if place.is_field else None)


@every_place
def test_two_that_write_at_once_note_a_conflict_exactly_if_a_value_is_lost(
    opened: Opened, place: Place
) -> None:
    """Every operation against every other; the journal is of types that read one of several."""
    here, there = Replica(1), Replica(2, now_ms=START_MS + 7)
    keys: list[str] = []
    for mine, other in combinations_with_replacement(_distinct(place)[:8], 2):
        keys.append(str(len(keys)))
        for replica, operation in ((here, mine), (there, other)):
            with suppress(CallerError):
                replica.do(place.name.type, key=keys[-1], **operation)
    exchange(here, there)
    lost = {key: values for key in keys if (values := _lost(here, place, key))}
    assert bool(lost) == getattr(place.kind, "has_losers", False)
    with opened(here.store) as door:
        conflicts = {one.name.key: one for one in door.conflicts("shop", place.name.type)}
        assert {key: [one.value for one in c.lost] for key, c in conflicts.items()} == lost
        for key, conflict in conflicts.items():
            at = place._replace(key=key)
            assert (conflict.name, conflict.field) == (at.name, place.field)
            assert conflict.kept == at.value(door)
            assert conflict.lost[0].replica in ("eu-1", _incarnation(there))


def _incarnation(replica: Replica) -> str:
    return format_incarnation(replica.engine.state.incarnation)


def _lost(replica: Replica, place: Place, key: str) -> list[Any]:
    """The values in force that are not read."""
    kind = place.kind
    if not (isinstance(kind, StateType) and kind.has_losers):
        return []
    tail = address.leaf(_PATH, place.type, address.OWN) if place.is_field else address.OWN
    live = replica.record(place._replace(key=key).name.prefix + tail).live
    losing = live.keys() - set(kind.decisive(live))
    return [kind.describe(live[dot])["value"] for dot in sorted(losing)]


@every_place
def test_it_is_exported_and_imported_to_the_same(door: Door, place: Place) -> None:
    for operation in _distinct(place)[:12]:
        with suppress(CallerError):
            door.update(place.name, [operation])
    if not door.read(place.name).exists:
        door.update(place.name, [place.asked(creation(place.type))])
    lines = list(door.export("shop"))
    (document,) = map(json.loads, lines)
    assert [document[part] for part in ("bucket", "type", "key")] == list(place.name)
    with Database.in_memory(replica="copy") as copy:
        assert copy.import_(lines).written == {place.name.type: 1}
        assert list(copy.export("shop")) == lines
    before = door.read(place.name).size
    done = door.import_([json.dumps({**document, "key": "copy"}).encode()])
    assert (done.failed, done.written) == (0, {place.name.type: 1})
    assert door.read(place.name._replace(key="copy")).size == before


@every_place
def test_it_is_deleted_or_that_is_refused(door: Door, place: Place) -> None:
    door.update(place.name, [place.asked(creation(place.type))])
    since = door.now()
    if not place.kind.deletable:
        with pytest.raises(CallerError) as refused:
            door.update(place.name, [place.asked({"op": "delete"})])
        assert refused.value.slug == "invalid-operation"
        return
    assert door.update(place.name, [place.asked({"op": "delete"})]).changed
    assert not door.read(place.name).exists
    assert [event.deleted for event in _told(door, since)] == [True]
    assert list(door.export("shop")) == []
    if isinstance(place.kind, ScalarType) and not place.is_field:
        assert door.read(place.name).value == place.kind.value({})
    assert not door.update(place.name, [place.asked({"op": "delete"})]).changed
