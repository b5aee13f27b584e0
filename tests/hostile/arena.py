"""Two honest replicas, real machines under a virtual clock, and whoever the script says.

The honest ones talk to each other without loss. The attacker says whatever it likes to either, as
whomever it likes, and answers what it is asked, if the script has an answer. At the end it falls
silent, and `recover` wants to see the honest ones equal and still taking each other's writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from crdtdb import codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.errors import PeerError
from crdtdb.record import Record
from crdtdb.replication import Replication, Send, Sender
from crdtdb.replication.messages import (
    Message,
    Page,
    Pull,
    Push,
    Summary,
    read_frame,
    write_frame,
)
from crdtdb.store.base import Table
from replicas import Replica, update

__all__ = ["ATTACKER", "Arena", "Honest", "sent"]

ATTACKER: Final = 77
#: The META row of a pull under way (`crdtdb.replication.staging`).
_PULL: Final = b"pull"
_TICK_MS: Final = 50
#: In virtual time: a donor that fell silent is left after 5 s, a failed pull is waited for longer.
_RECOVERY_MS: Final = 120_000


def sent(at: bytes, payload: Any, *dots: tuple[int, int]) -> tuple[bytes, bytes]:
    """A record with one payload, as it travels; without a payload's dot, what is left of one."""
    context = VersionVector.of(dots)
    live = {} if payload is ... else {dots[0]: payload}
    return at, codec.encode_record(at, Record(live, context))


class Honest:
    """One honest replica."""

    def __init__(self, number: int, name: str, *peers: str) -> None:
        self.replica = Replica(number)
        self.name = name
        self.peers = peers
        self.restart()

    def restart(self) -> None:
        """Stop and start again, from what is on the disk."""
        self.replica.reopen()
        self.machine = Replication(
            self.replica.engine,
            name=self.name,
            endpoint=self.name,
            peers=self.peers,
            random=Random(self.name),
        )
        machine = self.machine
        self.replica.engine.replicas = lambda: {
            member.incarnation: member.name for member in machine.members.values()
        }

    @property
    def seen(self) -> VersionVector:
        return self.replica.seen

    @property
    def incarnation(self) -> int:
        return self.machine.incarnation

    def refused(self, reason: str) -> int:
        """How often something was refused for that reason, as `/v1/cluster` shows it."""
        return self.machine.refusals.get(reason, 0)


def _lasting(honest: Honest) -> dict[Table, dict[bytes, bytes]]:
    """Its rows, but for what a pull has staged, which is dropped when the pull is given up."""
    rows = honest.replica.rows()
    del rows[Table.STAGED]
    rows[Table.META].pop(_PULL, None)
    return rows


class Arena:
    """Where they meet."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.a, self.b = Honest(1, "a", "b"), Honest(2, "b", "a")
        self.attacker = Sender("crdtdb", ATTACKER, "x", "", "x", False)
        #: What the attacker answers to a message of an honest replica; nothing by itself.
        self.answers: Callable[[Message], list[Message]] = lambda _: []
        #: What the attacker was told, oldest first.
        self.heard: list[Message] = []
        #: Replicas that nothing reaches, and that say nothing.
        self.away: set[str] = set()
        self._letters: deque[tuple[Sender, Send]] = deque()
        for honest in self.honest:
            self._post(honest, honest.machine.start(0))
        self.run(5_000)
        self.write("opcounter", "increment", by=1)
        self.write("set", "add", value="kept")
        self.run(5_000)
        assert self.a.machine.members.keys() == self.b.machine.members.keys()
        assert len(self.a.machine.members) == 2

    @property
    def honest(self) -> tuple[Honest, Honest]:
        return self.a, self.b

    # -- what honest replicas do ----------------------------------------------------------------

    def write(self, type_name: str, op: str, *, by_whom: str = "a", **arguments: Any) -> None:
        """A client writes at an honest replica."""
        honest = self.a if by_whom == "a" else self.b
        self._post(honest, honest.machine.before_write())
        name = ObjectName("shop", type_name, "k")
        committed = honest.replica.commit(update(name, {"op": op, **arguments}))
        assert committed.push is not None
        self._post(honest, honest.machine.committed(committed.push))
        self._deliver()

    def run(self, duration_ms: int, step_ms: int = _TICK_MS) -> None:
        """Let time pass."""
        end = self.now_ms + duration_ms
        while self.now_ms < end:
            self.now_ms += step_ms
            for honest in self.honest:
                honest.replica.now_ms += step_ms
                if honest.name not in self.away:
                    self._post(honest, honest.machine.tick(self.now_ms))
            self._deliver()

    def rejoin(self, honest: Honest) -> None:
        """An operator takes a replica back that was evicted."""
        self._post(honest, honest.machine.rejoin())
        self._deliver()

    # -- what the attacker does -----------------------------------------------------------------

    def attack(self, message: Message | bytes, sender: Sender | None = None) -> str | None:
        """Say something to the replica `a`; why it was refused, if it was.

        What is refused has changed nothing, and was counted.
        """
        frame = message if isinstance(message, bytes) else write_frame(message)
        before, rows = dict(self.a.machine.refusals), _lasting(self.a)
        try:
            sends = self.a.machine.step(sender or self.attacker, frame, self.now_ms)
        except PeerError as error:
            refused = error
        else:
            self._post(self.a, sends)
            self._deliver()
            return None
        assert _lasting(self.a) == rows
        assert self.a.refused(refused.reason) == before.get(refused.reason, 0) + 1
        assert str(refused)
        return refused.reason

    def join(self) -> None:
        """The attacker becomes a member of the cluster, as anybody can who may speak at all."""
        assert self.attack(Pull(1, 0, 0, [], [])) is None
        self.run(1_000)
        assert ATTACKER in self.b.machine.members

    def push(self, *records: tuple[bytes, bytes], **changes: Any) -> Push:
        """A push of the attacker's first operation, by one that had seen what `a` has."""
        push = Push(ATTACKER, 1, 1, self.a.seen.flat(), 0, list(records))
        return msgspec.structs.replace(push, **changes)

    def lure(self, seen: VersionVector | None = None) -> None:
        """Make `a` pull from the attacker, who says that it has seen more."""
        seen = self.a.seen.with_dot((ATTACKER, 1)) if seen is None else seen
        self.attack(Summary(seen.flat(), 0, {}, False))

    def offer(self, *pages: Callable[[Pull], Page]) -> None:
        """Lure `a` into a pull, and answer its requests with these pages."""
        left = list(pages)

        def answer(message: Message) -> list[Message]:
            return [left.pop(0)(message)] if isinstance(message, Pull) and left else []

        self.answers = answer
        self.lure()

    def fall_silent(self) -> None:
        """No word of the attacker from here on."""
        self.answers = lambda _: []

    # -- the verdict ----------------------------------------------------------------------------

    def recover(self) -> None:
        """The attacker falls silent: the honest replicas become equal, and go on.

        Everybody takes what the other writes, also after a start from the disk.
        """
        self.fall_silent()
        for restarted in (False, True):
            for honest in self.honest:
                if restarted:
                    honest.restart()
                    self._post(honest, honest.machine.start(self.now_ms))
            for number, honest in enumerate(self.honest):
                value = f"after {restarted} {number}"
                self.write("set", "add", by_whom=honest.name, value=value)
            self._until_equal()
            members = self.a.replica.value("set")
            assert {"kept", f"after {restarted} 0", f"after {restarted} 1"} <= set(members)

    def _until_equal(self) -> None:
        end = self.now_ms + _RECOVERY_MS
        while self.now_ms < end:
            self.run(1_000)
            if self.a.seen == self.b.seen:
                break
        assert self.a.seen == self.b.seen, "blocked for ever"
        assert self.a.replica.digest() == self.b.replica.digest(), "diverged"

    # -- the network ----------------------------------------------------------------------------

    def _post(self, honest: Honest, sends: list[Send]) -> None:
        self._letters += ((honest.machine.me, send) for send in sends)

    def _deliver(self) -> None:
        while self._letters:
            sender, (endpoint, frame) = self._letters.popleft()
            target = next((h for h in self.honest if h.name == endpoint), None)
            if target is None:
                self._tell(sender, frame)
            elif not {target.name, sender.name} & self.away:
                self._post(target, target.machine.step(sender, frame, self.now_ms))

    def _tell(self, sender: Sender, frame: bytes) -> None:
        message = read_frame(frame)
        self.heard.append(message)
        if sender.name != "a":
            return
        for answer in self.answers(message):
            try:
                sends = self.a.machine.step(self.attacker, write_frame(answer), self.now_ms)
            except PeerError:
                continue
            self._post(self.a, sends)
