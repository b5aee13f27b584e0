"""Random executions of replicas with wrong clocks, whose objects have deadlines.

After every step the replica that changed shows what `lives` says, and at the end all are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from random import Random
from typing import Any, Final

import pytest

from crdtdb import address, author, draft, expiry, hlc, lives, reading, reclaim
from crdtdb.address import ObjectName
from crdtdb.author import Author
from crdtdb.causal import Dot, VersionVector
from crdtdb.datatype import OperationType
from crdtdb.errors import InvalidOperation
from crdtdb.record import Live
from crdtdb.replication.stability import Reports
from crdtdb.transaction import Push
from crdtdb.types import CATALOGUE
from crdtdb.view import ObjectView
from operations import random_operation
from oracle.events import ElementId, Event, EventId
from oracle.lives import Lives
from oracle.planting import breaks
from replicas import START_MS, Replica, acquaint, exchange, update

_TYPES: Final = sorted(name for name, kind in CATALOGUE.items() if kind.deletable)
#: What is kept as operations, in an object of its own or in a leaf of a map.
_LOGGED: Final = sorted(n for n, kind in CATALOGUE.items() if isinstance(kind, OperationType))
#: Of what has yet to happen.
_ASKED: Final[EventId] = (-1, 0)
_OFFSETS_MS: Final = (0, 0, 40, -60, 900)


class _Execution:
    def __init__(
        self, seed: int, type_name: str | None = None, *, in_logs: bool | None = None
    ) -> None:
        self._random = random = Random(seed)
        #: Is most of what is done to a map done to op-based leaves? To those of one type.
        self._in_logs = seed % 2 == 0 if in_logs is None else in_logs
        self._log = _LOGGED[seed // 2 % len(_LOGGED)]
        self._name = ObjectName("shop", type_name or random.choice(_TYPES), "k")
        self._replicas = [
            Replica(n, entropy=random.getrandbits, now_ms=START_MS + random.choice(_OFFSETS_MS))
            for n in range(random.randint(3, 5))
        ]
        if random.random() < 0.7:  # the others were evicted, for all that each of them knows
            acquaint(*self._replicas)
        self._lives = Lives(self._name)
        self._events: list[EventId] = []
        self._in_flight: list[list[Push]] = [[] for _ in self._replicas]
        self._cut_off: set[int] = set()
        self.tally: Counter[str] = Counter()
        self.story: list[str] = []

    def run(self, steps: int = 45) -> None:
        kinds = {
            self._write: 40,
            self._deadline: 14,
            self._push: 25,
            self._pull: 14,
            self._wait: 14,
            self._part: 5,
            self._settle: 5,
        }
        for _ in range(steps):
            (step,) = self._random.choices(list(kinds), weights=list(kinds.values()))
            step(self._random.choice(self._replicas))
        exchange(*self._replicas)
        for replica in self._replicas:
            self._check(replica)

    def _write(self, replica: Replica) -> None:
        operation = random_operation(self._name.type, self._random)
        if self._name.type == "map" and self._in_logs and self._random.random() < 0.7:
            operation = self._at_log()
        self._do(replica, operation)

    def _at_log(self) -> dict[str, Any]:
        """Something done to an op-based leaf of a map, or its removal."""
        field = [self._random.choice("ab")]
        if self._random.random() < 0.2:
            return {"op": "remove", "field": field}
        do = {"type": self._log, **random_operation(self._log, self._random)}
        return {"op": "update", "field": field, "do": do}

    def _deadline(self, replica: Replica) -> None:
        in_ms = self._random.choice((5, 50, 200, 1_000))
        wanted = {"op": "expire", "in_ms": in_ms}
        self._do(replica, {"op": "persist"} if self._random.random() < 0.25 else wanted)

    def _do(self, replica: Replica, operation: dict[str, Any]) -> None:
        past = self._visible(replica.seen)
        was = replica.show(self._name)
        let_go = frozenset[ElementId]()
        if self._name.type in ("list", "map"):
            let_go = self._lives.elements(past) - replica.elements(self._name)
        with replica.reading() as shows:
            now_ms = shows.now_ms
        if self._lives.refuses(Event(_ASKED, self._name, operation, past, past, 0), now_ms):
            with pytest.raises(InvalidOperation):
                replica.commit(update(self._name, operation))
            self.tally["refused"] += 1
            return
        committed = replica.commit(update(self._name, operation))
        (result,) = committed.outcomes[0].results
        self.story.append(f"{replica.number} {operation} {result}")
        self.tally["in a log of a map"] += operation.get("do", {}).get("type") in _LOGGED
        if result.stamp is not None:
            dot, time = result.stamp
            self._lives.add(
                Event(dot, self._name, operation, past, past, time, let_go), hlc.milliseconds(time)
            )
            self._events.append(dot)
        if operation["op"] not in ("expire", "persist"):
            assert result.changed == (replica.show(self._name) != was), operation
        if committed.push is not None:
            for other in self._replicas:
                if other is not replica and self._random.random() < 0.8:
                    self._in_flight[other.number].append(committed.push)
        self._check(replica)

    def _push(self, replica: Replica) -> None:
        pushes = self._in_flight[replica.number]
        if replica.number in self._cut_off:
            return
        for push in self._random.sample(pushes, len(pushes)):
            if replica.receive(push) or self._random.random() < 0.3:
                pushes.remove(push)
                self._check(replica)

    def _pull(self, replica: Replica) -> None:
        donor = self._random.choice([other for other in self._replicas if other is not replica])
        if not self._cut_off & {replica.number, donor.number}:
            replica.pull(donor)
            self.story.append(f"{replica.number} pulls from {donor.number}")
            self._check(replica)

    def _part(self, replica: Replica) -> None:
        self._cut_off ^= {replica.number}

    def _wait(self, replica: Replica) -> None:
        for one in self._replicas if self._random.random() < 0.7 else [replica]:
            one.now_ms += self._random.choice((5, 40, 200, 600))
            self._check(one)

    def _settle(self, replica: Replica) -> None:
        """All exchange; then one reclaims, and removes for good what has ended at everybody's."""
        exchange(*self._replicas)
        passed_ms = min(hlc.milliseconds(one.engine.time_now()) for one in self._replicas)
        self.story.append(f"{replica.number} ends what was over by {passed_ms - START_MS}")
        reports = Reports()
        for other in self._replicas:
            reports.take(other.number, other.seen, replica.seen)
        members = range(len(self._replicas))
        stable = reports.stable(members, replica.number, replica.seen)
        for clean_up, result in replica.take_out_idle(stable, passed_ms):
            self.tally["ended"] += 1
            if clean_up.at.endswith(address.EXPIRY) and result.stamp is not None:
                self._lives.forget(result.stamp.dot, replica.seen)
        self.tally["reclaimed"] += replica.reclaim(stable)
        self._check(replica)

    def _visible(self, seen: VersionVector) -> frozenset[EventId]:
        return frozenset(filter(seen.covers, self._events))

    def _check(self, replica: Replica) -> None:
        with replica.reading() as shows:
            now_ms = shows.now_ms
            until = shows.head(self._name.prefix)
        expected, expires_at_ms = self._lives.show(replica.seen, now_ms)
        shown = replica.show(self._name)
        told = f"{shown} {expected} {replica.number} at {now_ms - START_MS}"
        assert shown == expected, told
        assert (until.expires_at_ms if until.exists else None) == expires_at_ms, told
        self.tally["hidden"] += not shown.exists
        self.tally["shown"] += shown.exists
        self.tally["with a deadline"] += expires_at_ms is not None
        self.tally["depends on a deadline"] += until.timed


def test_replicas_show_what_their_deadlines_say(seed: int) -> None:
    execution = _Execution(seed)
    try:
        execution.run()
    except Exception:
        print(f"replay with --seed {seed}", *execution.story, sep="\n")
        raise


def executions_with_deadlines(seeds: Iterable[int], type_name: str) -> None:
    for seed in seeds:
        _Execution(seed, type_name).run()


def _first_deadline(live: Live) -> int | None:
    """A `persist` that does not count, if there is a deadline beside it."""
    return max((at_ms for at_ms, _ in live.values() if at_ms is not None), default=None)


def _at_once(portion: Any, prefix: bytes, _deadline_ms: int, dots: Collection[Dot]) -> None:
    """What one replica has hidden goes, whatever time the others have."""
    portion._leave_idle(prefix + address.EXPIRY, [*dots], portion._walk.place)


def _never(*_: Any) -> bool:
    return False


def _all_up_to(cuts: Live, _vector: VersionVector, guard: int | None) -> list[Dot]:
    """A new life's cut takes the place of those of all lives before."""
    return [dot for dot, (_, other) in cuts.items() if other is None or other <= (guard or 0)]


def _for_good(_covers: VersionVector, edit: Any) -> Any:
    return edit


def _none_found(*_: Any) -> list[Any]:
    return []


def _now(_: Live, now_ms: int) -> int:
    return now_ms


def _nothing(*_: Any) -> None:
    """Do nothing."""


@pytest.mark.planted
@pytest.mark.parametrize(
    ("type_name", "where", "what", "broken"),
    [
        pytest.param("set", draft, "deadline_of", _first_deadline, id="persist loses"),
        pytest.param("set", expiry, "_was_moved", _never, id="a moved one brings nothing back"),
        pytest.param("set", Author, "_begin_anew", _nothing, id="a write keeps what has ended"),
        pytest.param("flag", reclaim._Portion, "_await", _at_once, id="gone before all are past"),
        pytest.param("set", author, "since_of", _now, id="each deadline a new series"),
        pytest.param(
            "mvregister", ObjectView, "held", ObjectView.live, id="a write takes the hidden"
        ),
        pytest.param("set", reading, "is_hidden", _never, id="nothing is hidden"),
        pytest.param("set", author, "replaced", _all_up_to, id="one cut for all lives"),
        pytest.param("zset", lives, "_inventories", _none_found, id="totals begin before the cut"),
        pytest.param("text", lives, "guarded_edit", _for_good, id="what an edit takes out is gone"),
        pytest.param("map", lives, "guarded_edit", _for_good, id="and of a leaf, too"),
        pytest.param("map", lives, "logs", _none_found, id="a new life leaves the texts in a map"),
    ],
)
def test_a_planted_bug_is_found(
    type_name: str, where: Any, what: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, what, broken)
    assert breaks(executions_with_deadlines, seeds=range(300), type_name=type_name)


def test_these_executions_contain_what_they_are_for() -> None:
    tally: Counter[str] = Counter()
    for seed in range(60):
        execution = _Execution(seed)
        execution.run()
        tally += execution.tally
    print(tally)
    assert {*tally} >= {
        "hidden",
        "shown",
        "with a deadline",
        "depends on a deadline",
        "ended",
        "refused",
        "in a log of a map",
    }
    assert min(tally.values()) >= 10
