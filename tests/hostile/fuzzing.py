"""Frames that were valid once: a seeded random changes them, and an honest replica is given them.

Changes are made at every depth at which one could slip through: bytes of the frame (which its
checksum catches), the message within (its checksum put right again), and a record within that (with
its checksum right, too). Whatever a replica refuses must change nothing of it, and be counted;
whatever it takes in, it must be able to live with: go on, and start again from its disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.errors import CallerError, PeerError
from crdtdb.replication import Send
from crdtdb.replication.messages import Claim, Message, Page, Pull, Sender, write_frame
from crdtdb.types import CATALOGUE
from hostile.arena import ATTACKER, Arena, Honest
from operations import Plain, creation, random_operation
from replicas import Replica, missing, update

__all__ = ["Fuzzed", "fuzz"]

_CHECKSUM: Final = slice(1, 9)
_HEAD_BYTES: Final = 9
#: After so many frames the honest replicas are others: what was taken in must not add up.
_BATCH: Final = 20
_OPERATIONS: Final = 3
#: In the place of anything.
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, 0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 1.5, float("nan")),
    *(b"", b"\x00", b"\xff" * 9, "", "\x00", "x" * 70, [], [[]], [[[]]], {}, {"a": 1}),
    *([ATTACKER, 1], [ATTACKER, 2**53], [1, 1], [2, 10**6], msgspec.msgpack.Ext(5, b"x")),
)


class Fuzzed(NamedTuple):
    """What came of it."""

    frames: int
    #: By reason.
    refused: Counter[str]
    #: They were still valid, or harmless.
    taken: int


class _Overheard(Arena):
    """An arena in which everything that is said is noted."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        super().__init__()

    def _post(self, honest: Honest, sends: list[Send]) -> None:
        self.said += (send.frame for send in sends)
        super()._post(honest, sends)

    def ask(self, type_name: str, operation: Plain) -> None:
        """A client asks for an operation, which may change nothing."""
        committed = self.a.replica.commit(update(ObjectName("shop", type_name, "k"), operation))
        if committed.push is not None:
            self._post(self.a, self.a.machine.committed(committed.push))
        self._deliver()


def fuzz(frames: int, seed: int) -> Fuzzed:
    """Give that many changed frames to an honest replica. AssertionError for the first that hurts.

    Any exception but PeerError is one that hurts, too.
    """
    random = Random(seed)
    valid = _valid_frames(random)
    refused: Counter[str] = Counter()
    taken = 0
    for start in range(0, frames, _BATCH):
        arena = Arena()
        arena.join()
        before = taken
        for _ in range(min(_BATCH, frames - start)):
            frame, sender = _frame(arena, valid, random)
            try:
                reason = arena.attack(frame, sender)
            except PeerError:
                reason = None  # it was taken in, and what that led to is refused elsewhere
            if reason is None:
                taken += 1
            else:
                refused[reason] += 1
        _goes_on(arena, was_touched=taken > before)
    return Fuzzed(frames, refused, taken)


def _goes_on(arena: Arena, *, was_touched: bool) -> None:
    if not was_touched:
        arena.recover()
        return
    # Who is believed may claim what is not so (SECURITY.md): the others are no measure then.
    arena.away = {"b"}
    for value in ("before", "after"):
        arena.write("set", "add", value=value)
        assert value in arena.a.replica.value("set")
        arena.a.restart()
        arena.a.machine.start(arena.now_ms)
    arena.run(1_000)


def _frame(arena: Arena, valid: Sequence[bytes], random: Random) -> tuple[bytes, Sender]:
    """A frame that was changed, and who says it."""
    chosen = random.random()
    if chosen < 0.4:
        return _changed(random.choice(valid), random), random.choice(
            (arena.attacker, arena.b.machine.me)
        )
    records = _RECORDS[random.choice(sorted(_RECORDS))]
    message: Message = arena.push(*records)
    if chosen < 0.7:
        arena.lure()
        asked = next((told for told in reversed(arena.heard) if isinstance(told, Pull)), None)
        if asked is not None:
            claim = Claim(arena.a.seen.with_dot((ATTACKER, 1)).flat(), 0)
            message = Page(asked.session, asked.since, 5, 9, list(records), claim)
    return _changed(write_frame(message), random), arena.attacker


def _records_of(type_name: str) -> list[tuple[bytes, bytes]]:
    """What the attacker would send of a type, if it were honest."""
    peer = Replica(9, entropy=lambda bits: ATTACKER)
    peer.commit(update(ObjectName("shop", type_name, "k"), creation(type_name)))
    return list(missing(peer.store, NOTHING))


_RECORDS: Final = {name: _records_of(name) for name in CATALOGUE}


def _valid_frames(random: Random) -> list[bytes]:
    """What replicas say that meet, write, pull from each other, and forget."""
    arena = _Overheard()
    arena.join()
    for name in CATALOGUE:
        arena.ask(name, creation(name))
        for _ in range(_OPERATIONS):
            with suppress(CallerError):  # not everything is possible in every state
                arena.ask(name, random_operation(name, random))
    arena.run(2_000)
    arena.attack(Pull(1, 0, 0, [], []))
    frames = [*arena.said, *map(write_frame, arena.heard)]
    kinds: dict[Any, list[bytes]] = {}
    for frame in dict.fromkeys(frames):
        message = msgspec.msgpack.decode(frame[_HEAD_BYTES:])
        kinds.setdefault(message[0], []).append(frame)
    assert len(kinds) > 5, "too few kinds of messages to learn from"
    # As many of each kind, however rarely it is said.
    most = max(map(len, kinds.values()))
    return [frame for said in kinds.values() for frame in said * -(-most // len(said))]


# -- changes --------------------------------------------------------------------------------------


def _changed(frame: bytes, random: Random) -> bytes:
    if random.random() < 0.1:
        return _scrambled(frame, random)
    version, body = frame[:1], frame[_HEAD_BYTES:]
    if random.random() < 0.15:
        body = _scrambled(body, random)
    else:
        message = msgspec.msgpack.decode(body)
        pairs = list(_pairs_in(message))
        if pairs and random.random() < 0.7:
            pair = random.choice(pairs)
            pair[1] = _mutated_record(pair[0], pair[1], random)
        else:
            for _ in range(random.choice((1, 1, 1, 2, 5))):
                message = _mutated(message, random)
        body = msgspec.msgpack.encode(message)
    return version + xxhash.xxh3_64_digest(body) + body


def _scrambled(data: bytes, random: Random) -> bytes:
    scrambled = bytearray(data)
    position = random.randrange(len(data))
    match random.randrange(4):
        case 0:
            scrambled[position] ^= 1 << random.randrange(8)
        case 1:
            del scrambled[position:]
        case 2:
            del scrambled[position : position + random.randrange(1, 9)]
        case _:
            scrambled[position:position] = random.randbytes(random.randrange(1, 9))
    return bytes(scrambled)


def _mutated(value: Any, random: Random) -> Any:
    """A value with one change somewhere in it."""
    if isinstance(value, list) and value and random.random() < 0.85:
        items = list(value)
        position = random.randrange(len(items))
        match random.randrange(10):
            case 0:
                del items[position]
            case 1:
                items.insert(position, items[position])
            case 2:
                items.append(random.choice(_ODD))
            case _:
                items[position] = _mutated(items[position], random)
        return items
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        return {**value, key: _mutated(value[key], random)}
    if isinstance(value, bytes) and value and random.random() < 0.6:
        return _scrambled(value, random)
    if isinstance(value, int) and random.random() < 0.6:
        return min(max(value + random.choice((-1, 1, 1_000_000)), -(2**63)), 2**64 - 1)
    return random.choice(_ODD)


def _pairs_in(value: Any) -> Iterator[list[Any]]:
    """The records in a message, each with its address."""
    if isinstance(value, list):
        if _is_record(value):
            yield value
        for item in value:
            yield from _pairs_in(item)


def _is_record(pair: list[Any]) -> bool:
    """An address, and a record with a checksum that covers both?"""
    if len(pair) != 2 or not all(isinstance(part, bytes) for part in pair):
        return False
    at, data = pair
    checksum: bytes = xxhash.xxh3_64_digest(at + data[_HEAD_BYTES:])
    return bool(data[_CHECKSUM] == checksum)


def _mutated_record(at: bytes, data: bytes, random: Random) -> bytes:
    """A record of which the checksum holds."""
    body = msgspec.msgpack.encode(_mutated(msgspec.msgpack.decode(data[_HEAD_BYTES:]), random))
    return data[:1] + xxhash.xxh3_64_digest(at + body) + body
