"""A donor with a history and somebody who copies or pulls it, page by page, and may be killed."""

from __future__ import annotations

from random import Random

from crdtdb.address import ObjectName
from crdtdb.errors import PeerError
from crdtdb.replication import Phase, Replication, Send
from crdtdb.replication.messages import Copied, Copy, Page, Pull, read_frame
from crdtdb.store.base import Table
from replicas import Replica, update

__all__ = ["RECORDS", "Pulling"]

RECORDS = 95


class Pulling:
    """A donor with a history and somebody who pulls it; no frame between them is lost."""

    def __init__(self, *, served: bool = False, puller: Replica | None = None) -> None:
        self.now_ms = 0
        self.donor, self.puller = Replica(1), puller or Replica(2)
        #: Who does not answer.
        self.away: set[str] = set()
        self.machines = {"a": self._machine("a"), "b": self._machine("b")}
        self.deliver([("a", s) for s in self.machines["a"].start(0)])
        self.run(4_000, only="a")
        assert self.machines["a"].phase is Phase.SERVING
        #: What the puller asked for and was sent.
        self.asked: list[int] = []
        self.sent: list[bytes] = []
        #: Up to which addresses it copied, and how many rows it was sent.
        self.copied: list[bytes] = []
        self.rows = 0
        #: Is the puller killed after so many pages? None: not at all.
        self.pages_left: int | None = None
        if served:
            self.start()
            self.run(3_000)

    def _machine(self, name: str) -> Replication:
        replica, peer = (self.donor, "b") if name == "a" else (self.puller, "a")
        peers = () if name == "a" else (peer,)
        return Replication(
            replica.engine, name=name, endpoint=name, peers=peers, random=Random(name)
        )

    @property
    def machine(self) -> Replication:
        """The puller's."""
        return self.machines["b"]

    def start(self) -> None:
        """Start the puller."""
        self.deliver([("b", send) for send in self.machine.start(self.now_ms)])

    def restart(self, pages: int | None = None) -> None:
        """The puller was killed: it goes on with what is on its disk, perhaps for so many pages."""
        self.puller.reopen()
        self.machines["b"] = self._machine("b")
        self.pages_left = pages
        self.start()

    def pull(self, pages: int) -> None:
        """Let the puller get so many pages, and be killed then."""
        self.pages_left = pages
        for _ in range(100):
            if self.pages_left == 0 or self.puller.seen.includes(self.donor.seen):
                break
            self.tick()

    def write(self, count: int = RECORDS, first: int = 0) -> None:
        """Writes at the donor that the puller hears nothing of."""
        for i in range(first, first + count):
            self.put(self.donor, f"k{i % 7}", i)

    @staticmethod
    def put(replica: Replica, key: str, value: int) -> None:
        name = ObjectName("shop", "set", key)
        replica.commit(update(name, {"op": "add", "value": value}))

    def tick(self, name: str = "b") -> None:
        self.now_ms += 50
        self.donor.now_ms += 50
        self.puller.now_ms += 50
        self.deliver([(name, send) for send in self.machines[name].tick(self.now_ms)])

    def run(self, duration_ms: int, only: str | None = None) -> None:
        end = self.now_ms + duration_ms
        while self.now_ms < end:
            for name in ("a", "b") if only is None else (only,):
                self.tick(name)

    def run_until_equal(self) -> None:
        for _ in range(2_000):
            if self.puller.seen.includes(self.donor.seen) and self.machine.progress is None:
                break
            self.run(50)
        assert self.puller.digest() == self.donor.digest()
        self.run(5_000)
        assert not self.puller.rows()[Table.STAGED], "what was joined is still staged"

    def deliver(self, letters: list[tuple[str, Send]]) -> None:
        while letters:
            whence, (endpoint, frame) = letters.pop(0)
            if endpoint not in self.machines or endpoint in self.away:
                continue
            message = read_frame(frame)
            is_page = isinstance(message, Page | Copied)
            if is_page and self.pages_left == 0:
                continue
            match message:
                case Page():
                    self.sent += [at for at, _ in message.records]
                case Copied():
                    self.rows += len(message.rows)
                case Pull():
                    self.asked.append(message.since)
                case Copy():
                    self.copied.append(message.after)
            machine = self.machines[endpoint]
            try:
                sends = machine.step(self.machines[whence].me, frame, self.now_ms)
            except PeerError:
                sends = []
            if is_page and self.pages_left is not None:
                self.pages_left -= 1
                if not self.pages_left:
                    continue  # killed before it could ask for more
            letters += [(endpoint, send) for send in sends]
