"""Replicas with their replication machines, in one process: stories about what they say."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

from crdtdb.errors import StorageFailed
from crdtdb.replication import Replication, Send
from replicas import Replica

__all__ = ["Pair"]


class Pair:
    """Two machines, or more, with a network that loses nothing, and a clock."""

    def __init__(
        self, a: Replica | None = None, b: Replica | None = None, *others: Replica
    ) -> None:
        """Two new replicas, or those that are given."""
        given = (a or Replica(1), b or Replica(2), *others)
        self.replicas = dict(zip("abcdef", given, strict=False))
        self.now_ms = 0
        self.machines = {
            name: Replication(
                replica.engine,
                name=name,
                endpoint=name,
                peers=tuple(sorted(self.replicas.keys() - {name})),
                random=Random(name),
            )
            for name, replica in self.replicas.items()
        }
        for name, machine in self.machines.items():
            self.deliver(name, machine.start(0))

    def deliver(self, sender: str, sends: list[Send]) -> None:
        for whom, frame in sends:
            if whom not in self.machines:
                continue  # nobody is there
            machine = self.machines[whom]
            self.deliver(whom, machine.step(self.machines[sender].me, frame, self.now_ms))

    def tick(self) -> None:
        """A tenth of a second. What a machine cannot take in gets no answer."""
        self.now_ms += 100
        for name, machine in self.machines.items():
            for send in machine.tick(self.now_ms):
                with suppress(StorageFailed):
                    self.deliver(name, [send])

    def run(self, duration_ms: int) -> None:
        for _ in range(duration_ms // 100):
            self.tick()

    def write(self, name: str, *args: Any, **more: Any) -> None:
        replica, machine = self.replicas[name], self.machines[name]
        before = replica.engine.commit

        def commit(transactions: Any) -> Any:
            committed = before(transactions)
            if committed.push is not None:
                self.deliver(name, machine.committed(committed.push))
            return committed

        replica.engine.commit = commit  # type: ignore[method-assign]
        try:
            replica.do(*args, **more)
        finally:
            replica.engine.commit = before  # type: ignore[method-assign]
