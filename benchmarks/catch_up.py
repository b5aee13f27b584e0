"""Two replicas: what it takes one to catch up, and what they say when there is nothing to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final

from counted import CountedStore
from dissemination import formed
from figures import Figure, Round, at_most
from overlays import Overlay
from updates import changed_records, members, update
from virtual_network import Replica, Traffic

__all__ = ["Pair", "catch_up", "counter", "idle_digest"]

_PAIR: Final = Overlay("pair", [[1], [0]])
_SETTLE_MS: Final = 5_000
_CATCH_UP_MS: Final = 3_600_000
_IDLE_MS: Final = 60_000
_MISSED: Final = (100, 1_000, 10_000)
_INCREMENTS: Final = 1_000
_VALUE_BYTES: Final = 50


class Pair:
    """A donor that writes while they are apart, and a puller."""

    def __init__(self, seed: int, purpose: str) -> None:
        #: What was asked of both stores.
        self.calls: Counter[str] = Counter()
        self.random = Random(f"{seed} {purpose}")
        self.network = formed(_PAIR, self.random, lambda at: CountedStore(at, self.calls))
        self.donor, self.puller = self.network.replicas.values()

    @contextmanager
    def apart(self) -> Iterator[Replica]:
        """The donor writes alone. Then the puller catches up, of which the traffic is counted."""
        network = self.network
        network.separate()
        yield self.donor
        network.traffic = Traffic()
        network.connect(self.donor.name, self.puller.name)
        network.run_while(lambda: not network.is_level, _CATCH_UP_MS)

    def hold(self, records: int) -> None:
        """Let both hold so many set members, and be done with it."""
        with self.apart() as donor:
            for values in members(self.random, records):
                donor.write(update("set", "stored", "add", values=values))
        self.network.run_until(self.network.now_ms + _SETTLE_MS)

    def miss(self, records: int) -> tuple[int, int]:
        """Let the puller miss so many records, then catch up; how many that were, and their bytes.

        Half of them are members of one set, of 20 characters, half registers of 100 characters.
        """
        place = self.donor.engine.state.sequence
        with self.apart() as donor:
            for values in members(self.random, records // 2):
                donor.write(update("set", "missed", "add", values=values))
            for number in range(records - records // 2):
                text = self.random.randbytes(_VALUE_BYTES).hex()
                donor.write(update("register", f"title:{place + number}", "set", value=text))
        return changed_records(self.donor.engine.store, place)

    def compare(self) -> None:
        """One digest and its answer, and nothing else that replicas do meanwhile."""
        donor, puller, now_ms = self.donor.replication, self.puller.replication, self.network.now_ms
        answers = puller.step(donor.me, donor.probe(), now_ms)
        for answer in answers:
            donor.step(puller.me, answer.frame, now_ms)


def catch_up(stored: Sequence[int], seed: int) -> Iterator[Figure]:
    """Bodies of a catch-up against the records that were missing, in stores of several sizes."""
    bodies: dict[tuple[int, int], float] = {}
    for size in stored:
        pair = Pair(seed, "catch-up")
        pair.hold(size)
        for missed in _MISSED:
            records, least = pair.miss(missed)
            traffic = pair.network.traffic
            assert records == missed
            ratio = bodies[size, missed] = traffic.body_bytes / least
            measured = {
                "body bytes": traffic.body_bytes,
                "least": least,
                "records sent": traffic.records,
                "requests": traffic.requests,
            }
            name = f"catch-up of {missed:,}, {size:,} stored: bytes / least"
            yield Figure(name, at_most(1.10), [Round(ratio, measured)])
    small, large = min(stored), max(stored)
    ratio = max(bodies[large, missed] / bodies[small, missed] for missed in _MISSED)
    name = f"catch-up: {large:,} stored / {small:,} stored"
    yield Figure(name, at_most(1.01), [Round(ratio, {"sizes": len(stored)})])


def counter(increments: int, seed: int) -> Figure:
    """A counter that was incremented very often while nobody could hear of it."""
    pair = Pair(seed, "counter")
    with pair.apart() as donor:
        for _ in range(0, increments, _INCREMENTS):
            donor.write(*[update("counter", "views", "increment", by=1)] * _INCREMENTS)
    traffic = pair.network.traffic
    measured = {"records sent": traffic.records, "body bytes": traffic.body_bytes}
    name = f"{increments:,} increments missed: records sent"
    return Figure(name, at_most(1), [Round(traffic.records, measured)])


def idle_digest(stored: Sequence[int], seed: int) -> Iterator[Figure]:
    """What equal replicas say to each other in a minute, and what a digest costs their stores."""
    calls: dict[int, int] = {}
    for size in stored:
        pair = Pair(seed, "idle")
        pair.hold(size)
        network = pair.network
        network.traffic = traffic = Traffic()
        network.run_until(network.now_ms + _IDLE_MS)
        digests = traffic.messages["Digest"]
        asked = {"requests": traffic.requests, "digests": digests}
        name = f"idle, {size:,} stored: requests a digest"
        yield Figure(name, at_most(1), [Round(traffic.requests / digests, asked)])
        bodies = {"request": traffic.largest_request, "answer": traffic.largest_answer}
        name = f"idle, {size:,} stored: bytes of the greatest body"
        yield Figure(name, at_most(64), [Round(max(bodies.values()), bodies)])
        pair.calls.clear()
        pair.compare()
        calls[size] = pair.calls.total()
    small, large = min(stored), max(stored)
    name = f"idle: store calls a digest, {large:,} stored - {small:,}"
    measured: dict[str, float] = {f"{size:,} stored": number for size, number in calls.items()}
    yield Figure(name, at_most(0), [Round(calls[large] - calls[small], measured)])
