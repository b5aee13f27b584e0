"""What a run did and showed, noted as the explicit histories that `checkers` judge at its end.

The judge compares after every message, by what version vectors say. The notes do not believe them:
what transactions read and wrote is told by the values of beacons (`workload`), as users and
machines were shown them. A user hops between machines with a session token; a machine that has not
seen what it covers does not answer. When a disk is put back everybody begins anew, for nobody can
ask for what is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any, Final

from checkers.atomicity import atomicity
from checkers.bounds import Sample, bounds
from checkers.causality import causality, convergent_causality
from checkers.convergence import State, convergence
from checkers.dots import Forgotten, Minted, dots
from checkers.durability import Ended, Found, Held, Moment, PutBack, durability
from checkers.invariants import Element, Sight, invariants
from checkers.order import Transaction, Value
from checkers.resurrection import Added, Removed, Viewed, resurrection
from checkers.sessions import sessions
from checkers.violation import Violation
from crdtdb.causal import NOTHING, Dot, VersionVector, format_dot
from crdtdb.errors import StorageFailed
from crdtdb.jsonbytes import encode
from crdtdb.jsonvalue import JsonValue, normalise
from crdtdb.reading import Digest, Reading
from crdtdb.transaction import Update
from oracle.events import Event, Object, Shown
from simulation.ledger import Issued, Ledger
from simulation.workload import BEACONS

__all__ = ["Notes"]

_USERS: Final = 3
#: Types that have invariants, and the one that things come back in.
_NOTED: Final = frozenset({"gcounter", "gset", "max", "min", "bcounter", "list", "set"})
_WIPES: Final = frozenset({"delete", "clear", "reset", "erase"})


class Notes:
    """The histories of one run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._transactions: list[Transaction] = []
        self._moments: list[Moment] = []
        self._minted: list[Minted | Forgotten] = []
        self._samples: list[Sample] = []
        #: What changed in sight: (viewer, object, what it showed, what the viewer had seen).
        self._sights: list[tuple[str, Object, Shown, VersionVector]] = []
        self._shown: dict[tuple[str, Object], Shown] = {}
        #: What each machine was last seen to hold, and to show of the beacons.
        self._held: dict[str, VersionVector] = {}
        self._beacons: dict[str, Mapping[str, Value]] = {}
        #: Users take turns; each has a token.
        self._turns = cycle(range(_USERS))
        self._tokens = [NOTHING] * _USERS
        #: Counts the disks that were put back: sessions do not outlive that.
        self._era = 0
        self._clocks_agree = True

    # -- what was done --------------------------------------------------------------------------

    def issued(self, machine: str, issued: Iterable[Issued]) -> None:
        """Transactions took effect at a machine; some user of its had asked for them."""
        for one in issued:
            self._minted.append(Minted(machine, one.origin, one.first, one.last))
            writes = {
                update.name.key: getattr(update.operation, "value", None)
                for update, _, _ in one.operations
                if isinstance(update, Update) and update.name in BEACONS
            }
            if writes:
                session = self._session(machine, one.past.with_dot((one.origin, one.last)))
                reads = dict(self._beacons.get(machine, {}))
                self._transactions.append(Transaction(session, reads, writes))
                self._beacons[machine] = reads | writes

    def disagree(self) -> None:
        """Clocks differ by more than is believed: concurrent writes may be decided otherwise."""
        self._clocks_agree = False

    def sampled(self, machine: str, what: str, held: int, most: int) -> None:
        """A machine holds so much of something; only too much is worth noting."""
        if held > most:
            self._samples.append(Sample(machine, what, held, most))

    def put_back(self, machine: str, found: VersionVector, kept: VersionVector) -> None:
        """A machine's disk was put back; `kept` is what all disks together still hold."""
        self._era += 1
        self._tokens = [NOTHING] * _USERS
        self._beacons.pop(machine, None)
        self._held[machine] = found
        self._sights = [sight for sight in self._sights if kept.includes(sight[3])]
        self._moments.append(PutBack(machine, found))
        self._minted.append(Forgotten(kept))

    def found(self, machine: str, seen: VersionVector) -> None:
        """A machine is about to start with this on its disk."""
        self._moments.append(Found(machine, seen))

    # -- what was shown -------------------------------------------------------------------------

    def showed(self, machine: str, reading: Reading, shown: Mapping[Object, Shown]) -> None:
        """Some objects were read at a machine, from one snapshot."""
        seen = reading.seen
        if self._held.get(machine) != seen:
            self._held[machine] = seen
            self._moments.append(Held(machine, seen))
        for name, one in shown.items():
            before = self._shown.get((machine, name))
            self._shown[machine, name] = one
            if name[1] in _NOTED and one != before:
                self._sights.append((self._viewer(machine), name, one, seen))
        if machine not in self._beacons or not shown.keys().isdisjoint(BEACONS):
            known = self._beacons.pop(machine, None)
            beacons = _read_beacons(reading)
            if beacons is not None:
                self._beacons[machine] = beacons
            if beacons is not None and beacons != known:
                self._transactions.append(Transaction(self._viewer(machine), beacons))

    def unreadable(self, machine: str, name: Object) -> None:
        """A record of an object is damaged: what it showed before is not what it shows now."""
        self._shown.pop((machine, name), None)
        if name in BEACONS:
            self._beacons.pop(machine, None)

    def user_read(self, machine: str, reading: Reading) -> None:
        """A user reads at a machine, if that has seen what the user's token covers."""
        beacons = _read_beacons(reading)
        if beacons is not None:
            session = self._session(machine, reading.seen)
            self._transactions.append(Transaction(session, beacons))

    def _session(self, machine: str, seen: VersionVector) -> str:
        """Whose turn it is, at a machine that has seen so much; the machine's own if too little."""
        user = next(self._turns)
        if not seen.includes(self._tokens[user]):
            return self._viewer(machine)
        self._tokens[user] = self._tokens[user].join(seen)
        return f"user {user} ({self._era})"

    def _viewer(self, machine: str) -> str:
        return f"{machine} ({self._era})"

    # -- the verdict ----------------------------------------------------------------------------

    def judge(self, digests: Mapping[str, tuple[VersionVector, Digest]]) -> list[Violation]:
        """All that the checkers find, given what each machine has in the end."""
        causal = convergent_causality if self._clocks_agree else causality
        ended = [Ended(machine, seen) for machine, (seen, _) in digests.items()]
        return [
            *dots(self._minted),
            *durability([*self._moments, *ended]),
            *bounds(self._samples),
            *convergence(self._states(digests), self._ledger.expected, self._ledger.latest()),
            *causal(self._transactions),
            *sessions(self._transactions),
            *atomicity(self._transactions),
            *self._resurrected(),
            *invariants(list(self._as_sights())),
        ]

    def _states(self, digests: Mapping[str, tuple[VersionVector, Digest]]) -> list[State]:
        return [
            State(
                machine,
                seen,
                digest,
                {name: shown for (where, name), shown in self._shown.items() if where == machine},
            )
            for machine, (seen, digest) in digests.items()
        ]

    def _resurrected(self) -> list[Violation]:
        found = []
        for name in self._ledger.objects:
            if name[1] == "set":
                views = [
                    Viewed(viewer, seen, frozenset(map(_text, json.loads(shown.text))))
                    for viewer, whose, shown, seen in self._sights
                    if whose == name
                ]
                found += resurrection([*_membership(self._ledger.events(name)), *views])
        return found

    def _as_sights(self) -> Iterable[Sight]:
        for viewer, name, shown, seen in self._sights:
            events = [e for e in self._ledger.events(name) if seen.covers(e.id)]
            deletes = frozenset(
                format_dot(event.id) for event in events if event.operation["op"] in _WIPES
            )
            value = json.loads(shown.text)
            sight = Sight(viewer, "/".join(name), name[1], value, deletes)
            match name[1]:
                case "gset":
                    sight = sight._replace(value=list(map(_text, value)))
                case "max" | "min":
                    sight = sight._replace(value=encode(value) if shown.exists else None)
                case "list":
                    sight = sight._replace(value=_elements(value, events))
                case "bcounter":
                    sight = _with_bounds(sight, events)
            yield sight


def _read_beacons(reading: Reading) -> Mapping[str, Value] | None:
    """What a machine shows of the beacons; None: a record of them is damaged."""
    try:
        values = {name.key: reading.value(name, reading.head(name.prefix)) for name in BEACONS}
    except StorageFailed:
        return None
    return {key: value if isinstance(value, int) else None for key, value in values.items()}


def _text(value: JsonValue) -> str:
    return json.dumps(normalise(value), sort_keys=True)


def _membership(events: Iterable[Event]) -> Iterable[Added | Removed | Viewed]:
    """What the operations on a set put in and took out."""
    added: dict[Dot, list[Added]] = {}
    for event in events:
        operation = event.operation
        named = {_text(v) for v in operation.get("values", [operation.get("value")])}
        if operation["op"] == "add":
            added[event.id] = [Added(event.id, element) for element in sorted(named)]
            yield from added[event.id]
        elif operation["op"] == "remove" or operation["op"] in _WIPES:
            observed = (one for dot in event.observed for one in added.get(dot, ()))
            wipes = operation["op"] in _WIPES
            yield Removed(event.id, frozenset(o for o in observed if wipes or o.element in named))


def _elements(value: list[dict[str, Any]], events: Iterable[Event]) -> list[Element]:
    """What a list showed, with who put each element in."""
    pasts = {format_dot(e.id): frozenset(map(format_dot, e.past)) for e in events}
    elements = []
    for element in value:
        operation = str(element["id"]).partition(".")[0]
        elements.append(Element(element["id"], operation, pasts.get(operation)))
    return elements


def _with_bounds(sight: Sight, events: Iterable[Event]) -> Sight:
    """The bounds of a counter, where nobody else has created it with others."""
    creations = [event.operation for event in events if event.operation["op"] == "create"]
    least = min((creation.get("min", 0) for creation in creations), default=0)
    most = creations[0].get("max") if len(creations) == 1 else None
    return sight._replace(least=least, most=most)
