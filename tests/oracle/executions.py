"""Random executions: a few replicas, many conflicts, and the specification at every step.

Everything is drawn from one seed. Replicas commit groups of transactions; their pushes are lost,
delayed and reordered; replicas pull from each other, now and then with pushes coming in between
asking and taking; they reclaim what is stable, stop and start again, move to another directory;
clocks are wrong. After every step the replica that changed is compared with the specification and
its books are checked; at the end all replicas are equal.

A gentle scheduler proves nothing: whether the executions contain what they are for is counted in
`tally`, and a test looks at it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from random import Random
from typing import Final

from crdtdb import codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.errors import UnknownType
from crdtdb.replication.stability import Reports
from crdtdb.transaction import Outcome, Push, Result
from oracle.checks import Violation, check_books
from oracle.events import ElementId, EventId, Scope, Shown, covers
from oracle.history import History, named_by_incarnation
from oracle.requests import Request, Requests, as_transaction, must_fail
from replicas import START_MS, Replica, Staged, acquaint, missing

__all__ = ["Execution"]

#: Clocks of replicas differ by so much: some are refused (LIMITS.max_drift_ms is 5,000).
_OFFSETS_MS: Final = (0, 0, 300, -2_000, 20_000)
_TIMES_MS: Final = (1, 500, 8_000, -4_000)


class Execution:
    """One run, about objects of some types. `story` tells it, `tally` counts what it contained."""

    def __init__(self, seed: int, types: Sequence[str] = ()) -> None:
        self._random = random = Random(seed)
        self._replicas = [
            Replica(n, entropy=random.getrandbits, now_ms=START_MS + random.choice(_OFFSETS_MS))
            for n in range(random.randint(3, 5))
        ]
        acquaint(*self._replicas)
        self._reports = [Reports() for _ in self._replicas]
        #: Pushes under way, by receiver.
        self._in_flight: list[list[Push]] = [[] for _ in self._replicas]
        #: Pulls whose pages have come but not the claim, by receiver.
        self._staged: dict[int, Staged] = {}
        self._requests = Requests(random, types)
        self._history = History(self._requests.names)
        #: The time of each replica's latest operation.
        self._times: dict[int, int] = {}
        #: What somebody's read has shown: read contexts to give back, now or much later.
        self._reads = [NOTHING]
        self.story: list[str] = []
        self.tally: Counter[str] = Counter()

    def run(self, steps: int = 40) -> None:
        """Carry it out. Raises Violation."""
        kinds: dict[Callable[[Replica], None], int] = {
            self._write: 45,
            self._push: 30,
            self._pull: 15,
            self._stage_or_claim: 15,
            self._settle: 4,
            self._reclaim: 5,
            self._restart: 3,
            self._let_time_pass: 5,
        }
        for _ in range(steps):
            (step,) = self._random.choices(list(kinds), weights=list(kinds.values()))
            step(self._random.choice(self._replicas))
        self._converge()

    def _tell(self, kind: str, line: str, count: int = 1) -> None:
        self.tally[kind] += count
        self.story.append(line)

    # -- steps ----------------------------------------------------------------------------------

    def _write(self, replica: Replica) -> None:
        """A group commit of one to three transactions, now and then with one that must fail."""
        group = self._requests.group(self._reads[-8:])
        visible = self._history.visible(replica.seen)
        let_go = {
            name: self._history.elements(name, visible) - replica.elements(name)
            for name in self._requests.names
            if name.type in ("list", "map")
        }
        committed = replica.engine.commit([as_transaction(requests) for requests in group])
        for requests, outcome in zip(group, committed.outcomes, strict=True):
            self._tell("transactions", f"{replica.number} writes {requests}: {outcome}")
            who = replica.engine.state.incarnation
            visible = self._take_outcome(requests, outcome, visible, who, let_go)
            self._check_times(replica, outcome)
        if committed.push is not None:
            for other in self._replicas:
                if other is not replica and self._random.random() < 0.8:
                    self._in_flight[other.number].append(committed.push)
        if self._random.random() < 0.5:
            self._reads.append(replica.seen)
        self._check(replica)

    def _push(self, replica: Replica) -> None:
        """Deliver pushes to a replica in any order; those that do not fit wait or are lost."""
        pushes = self._in_flight[replica.number]
        for push in self._random.sample(pushes, len(pushes)):
            taken = replica.receive(push)
            if taken or self._random.random() < 0.3:
                pushes.remove(push)
            if taken:
                what = f"{push.origin:x}:{push.first}-{push.last}"
                self._tell("pushes", f"{replica.number} receives {what}")
                self._check(replica)
            else:
                self.tally["pushes that did not fit"] += 1

    def _pull(self, replica: Replica) -> None:
        self._pull_from(replica, self._random.choice(self._others(replica)))

    def _pull_from(self, replica: Replica, donor: Replica) -> None:
        count = replica.pull(donor)
        self._tell("pulls", f"{replica.number} pulls {count} records from {donor.number}")
        self._report(replica, donor)
        if count:
            self._check(replica)

    def _stage_or_claim(self, replica: Replica) -> None:
        """Ask for what is missing, or take in what was asked for some steps ago."""
        staged = self._staged.pop(replica.number, None)
        if staged is None:
            donor = self._random.choice(self._others(replica))
            self._staged[replica.number] = replica.stage(donor)
            self.story.append(f"{replica.number} asks {donor.number} for what it lacks")
            return
        self._push(replica)
        contexts = [codec.decode_record(*entry).context for entry in staged.records]
        twice = sum(map(replica.seen.includes, contexts))
        replica.claim(staged)
        line = f"{replica.number} takes {len(staged.records)} records, {twice} of them again"
        self._tell("records that came twice", line, twice)
        self._check(replica)

    def _settle(self, replica: Replica) -> None:
        """Everybody exchanges with one replica; then some reclaim what that has made stable.

        Forced, for by chance alone hardly anything would become stable in so short a run.
        """
        for other in self._others(replica):
            self._pull_from(replica, other)
        for other in self._others(replica):
            self._pull_from(other, replica)
            self._report(replica, other)
        for reclaiming in self._random.sample(self._replicas, 2):
            for other in self._others(reclaiming):
                self._report(reclaiming, other)
            self._reclaim(reclaiming)

    def _report(self, replica: Replica, other: Replica) -> None:
        """The replica hears what the other has seen."""
        self._reports[replica.number].take(other.number, other.seen, replica.seen)
        self._reports[replica.number].advance(replica.seen)

    def _reclaim(self, replica: Replica) -> None:
        """Reclaim what is stable as far as the replica has heard."""
        members = range(len(self._replicas))
        stable = self._reports[replica.number].stable(members, replica.number, replica.seen)
        count = replica.reclaim(stable, entries=3)
        self._tell("records reclaimed", f"{replica.number} reclaims {count} records", count)
        self._check(replica)

    def _restart(self, replica: Replica) -> None:
        """Stop and start again; sometimes in another directory, hence with a new incarnation."""
        moved = self._random.random() < 0.3
        replica.reopen(self._random.randbytes(4) if moved else None)
        self._staged.pop(replica.number, None)
        self._reports[replica.number] = Reports()
        self._tell("moves" if moved else "restarts", f"{replica.number} restarts, {moved=}")
        self._check(replica)

    def _let_time_pass(self, replica: Replica) -> None:
        """A clock moves on, or is set back."""
        replica.now_ms += self._random.choice(_TIMES_MS)
        self._tell("clock changes", f"{replica.number} has {replica.now_ms - START_MS:+} ms")

    def _incarnations(self) -> dict[int, Replica]:
        """The replicas that have written under their present identity."""
        found = ((replica.engine.state.incarnation, replica) for replica in self._replicas)
        return {incarnation: replica for incarnation, replica in found if incarnation}

    def _others(self, replica: Replica) -> list[Replica]:
        return [other for other in self._replicas if other is not replica]

    # -- the end --------------------------------------------------------------------------------

    def _converge(self) -> None:
        """Everybody pulls from everybody; then all are equal and nobody has more for anybody."""
        for _ in range(2):
            for replica, donor in permutations(self._replicas, 2):
                self._pull_from(replica, donor)
        for replica, donor in permutations(self._replicas, 2):
            if replica.digest() != donor.digest() or replica.seen != donor.seen:
                raise Violation("convergence", f"{replica.number} and {donor.number} differ")
            if missing(donor.store, replica.seen):
                raise Violation("convergence", f"{donor.number} has more for {replica.number}")
        self._check_newcomer(self._random.choice(self._replicas))
        self.tally["times refused"] = sum(replica.times_refused for replica in self._replicas)

    def _check_newcomer(self, donor: Replica) -> None:
        """Who starts with nothing gets everything from any one replica, folded or not."""
        newcomer = Replica(len(self._replicas), entropy=self._random.getrandbits)
        newcomer.pull(donor)
        self._check(newcomer)
        if newcomer.digest() != donor.digest():
            raise Violation("convergence", f"a newcomer differs from {donor.number}")

    # -- checking -------------------------------------------------------------------------------

    def _take_outcome(
        self,
        requests: list[Request],
        outcome: Outcome,
        visible: frozenset[EventId],
        who: int,
        let_go: Mapping[ObjectName, frozenset[ElementId]],
    ) -> frozenset[EventId]:
        """Note what a transaction did, check its answers; returns what is visible after it."""
        members = {member.name: i for i, member in self._incarnations().items()}
        refusal = self._history.refusal(requests, who, members, visible)
        if refusal is None and must_fail(requests):
            refusal = UnknownType.slug
        if refusal != (outcome.error and outcome.error.slug):
            raise Violation("answers", f"{requests} refused with {outcome.error!r}, not {refusal}")
        if outcome.error is not None:
            self.tally[f"refused with {refusal}"] += 1
            self.tally["refused transactions"] += 1
            return visible
        for request, result in zip(requests, outcome.results, strict=True):
            before = visible
            if result.stamp is not None:
                dot, time = result.stamp
                target, asked, context = request
                operation = named_by_incarnation(asked, members)
                gone = frozenset[ElementId]()
                if isinstance(target, ObjectName):
                    gone = let_go.get(target, gone)
                self._history.add(
                    dot, target, operation, context, past=before, time=time, let_go=gone
                )
                visible = before | {dot}
            elif isinstance(request.target, ObjectName):
                self._check_in_vain(request.target, request, before)
            if isinstance(request.target, Scope):
                self._check_erased(request.target, result, before)
            else:
                self._check_answer(request.target, result, before, visible)
        return visible

    def _check_times(self, replica: Replica, outcome: Outcome) -> None:
        """Time never goes back, whatever the clock shows and however often a replica restarts.

        The operations of a transaction have one time.
        """
        times = {result.stamp.time for result in outcome.results if result.stamp is not None}
        last = self._times.get(replica.number, -1)
        if len(times) > 1 or min(times, default=last + 1) <= last:
            raise Violation("clock", f"{replica.number} writes at {sorted(times)}, after {last}")
        self._times[replica.number] = max(times, default=last)

    def _check_erased(self, scope: Scope, result: Result, before: frozenset[EventId]) -> None:
        erased = [
            name
            for name in self._requests.names
            if covers(scope, name) and self._history.show(name, before).exists
        ]
        self.tally["objects erased"] += len(erased)
        if (result.changed, result.size or 0) != (bool(erased), len(erased)):
            raise Violation("answers", f"{scope} erased {result}; {erased} were there")

    def _check_in_vain(
        self, name: ObjectName, request: Request, before: frozenset[EventId]
    ) -> None:
        """What left nothing had nothing to change."""
        was = self._history.show(name, before)
        if self._history.after(name, request.operation, request.context, past=before) != was:
            raise Violation("answers", f"{request} left nothing; was {was}")

    def _check_answer(
        self,
        name: ObjectName,
        result: Result,
        before: frozenset[EventId],
        after: frozenset[EventId],
    ) -> None:
        was, now = self._history.show(name, before), self._history.show(name, after)
        if now.size is None:
            answered = Shown.value(result.value, now.exists)
        else:
            answered = now._replace(size=result.size)
        if answered != now or result.changed != (was != now):
            raise Violation("answers", f"{name} answered {result}; was {was}, is {now}")

    def _check(self, replica: Replica) -> None:
        """The replica shows what the specification says, and its books agree."""
        visible = self._history.visible(replica.seen)
        for name in self._requests.names:
            shown, expected = replica.show(name), self._history.show(name, visible)
            if shown != expected:
                detail = f"{replica.number} shows {name} as {shown}, not {expected}"
                raise Violation("specification", detail)
            self._history.check_bounds(name, visible)
        check_books(replica.store)
