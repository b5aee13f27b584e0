"""What an element costs, by type: bytes stored, bytes and records sent, calls of the store.

    python benchmarks/footprint.py [--quick] [--seed N] [--json FILE]

No clock is in these: two replicas of the real core on a network in this process, virtual time, all
choices from the seed. A thousand elements are written at one replica while the other is away, which
then catches up. `gate.py` compares these counts with the accepted ones.

- Stored: keys and values of all tables, and of the records alone, that they have added.
- Sent: bodies of the catch-up, uncompressed, and the records in them.
- Store calls: what one more write of the same kind asks of the store.

An element is a member, a field, a character; of a type that has none, an object. What it says
itself (a text of 20 characters, unless it is a number) is part of the bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

import command
from catch_up import Pair
from crdtdb.store.base import Table
from crdtdb.transaction import Update
from disk import Disk
from figures import Figure, Round
from plan import Plan
from updates import update
from virtual_network import Replica

__all__ = ["ELEMENTS", "SEED", "WORKLOADS", "Footprint", "footprint", "measure"]

ELEMENTS: Final = 1_000
#: Of the counts that are compared with those of other versions.
SEED: Final = 1
_CONTENT_BYTES: Final = 10
#: Several operations to a transaction, as a client would send them.
_TOGETHER: Final = 100

#: The operation that writes the element of a number.
_Writes: TypeAlias = Callable[[int, Random], Update]


class Footprint(NamedTuple):
    """Of a thousand elements of one type."""

    stored_bytes: int
    record_bytes: int
    sent_bytes: int
    records_sent: int
    #: Of one more.
    store_calls: int


def _text(random: Random) -> str:
    return random.randbytes(_CONTENT_BYTES).hex()


def _objects(kind: str, op: str, says: Callable[[int, Random], dict[str, Any]]) -> _Writes:
    """Each element is an object of its own."""
    return lambda number, random: update(kind, f"key-{number:06}", op, **says(number, random))


def _members(kind: str, op: str, says: Callable[[int, Random], dict[str, Any]]) -> _Writes:
    """All elements are in one object."""
    return lambda number, random: update(kind, "all", op, **says(number, random))


def _value(_: int, random: Random) -> dict[str, Any]:
    return {"value": _text(random)}


def _number(number: int, _: Random) -> dict[str, Any]:
    return {"value": number}


def _nothing(*_: object) -> dict[str, Any]:
    return {}


def _scored(number: int, random: Random) -> dict[str, Any]:
    return {"member": _text(random), "score": number}


def _field(number: int, random: Random) -> dict[str, Any]:
    return {"field": [_text(random)], "do": {"type": "register", "op": "set", "value": number}}


def _character(number: int, random: Random) -> dict[str, Any]:
    return {"index": number, "text": random.choice("etaoin shrdlu")}


WORKLOADS: Final[Mapping[str, _Writes]] = {
    "counter": _objects("counter", "increment", _nothing),
    "gcounter": _objects("gcounter", "increment", _nothing),
    "opcounter": _objects("opcounter", "increment", _nothing),
    "bcounter": _objects("bcounter", "create", _nothing),
    "register": _objects("register", "set", _value),
    "mvregister": _objects("mvregister", "set", _value),
    "max": _objects("max", "set", _number),
    "min": _objects("min", "set", _number),
    "flag": _objects("flag", "enable", _nothing),
    "dwflag": _objects("dwflag", "enable", _nothing),
    "set": _members("set", "add", _value),
    "gset": _members("gset", "add", _value),
    "rwset": _members("rwset", "add", _value),
    "zset": _members("zset", "add", _scored),
    "map": _members("map", "update", _field),
    "list": _members("list", "insert", _value),
    "text": _members("text", "insert", _character),
    "hll": _members("hll", "add", _value),
    "counter, one object": _members("counter", "increment", _nothing),
    "opcounter, one object": _members("opcounter", "increment", _nothing),
}


def footprint(name: str, seed: int = SEED) -> Footprint:
    """The counts of one workload: the same in every run of the same code."""
    pair, writes = Pair(seed, name), WORKLOADS[name]
    random = Random(f"{seed} {name} elements")
    with pair.apart() as donor:
        before = _sizes(donor)
        for start in range(0, ELEMENTS, _TOGETHER):
            numbers = range(start, start + _TOGETHER)
            donor.write(*(writes(number, random) for number in numbers), push=False)
        after = _sizes(donor)
    traffic = pair.network.traffic
    sent_bytes, records_sent = traffic.body_bytes, traffic.records
    pair.calls.clear()
    donor.write(writes(ELEMENTS, random), push=False)
    stored_bytes, record_bytes = (now - then for now, then in zip(after, before, strict=True))
    return Footprint(stored_bytes, record_bytes, sent_bytes, records_sent, pair.calls.total())


def _sizes(replica: Replica) -> tuple[int, int]:
    """Bytes in all tables, and in the records."""
    with replica.engine.store.snapshot() as snapshot:
        sizes = {
            table: sum(len(key) + len(value) for key, value in snapshot.scan(table))
            for table in Table
        }
    return sum(sizes.values()), sizes[Table.RECORDS]


def measure(plan: Plan, _directory: Path, _disk: Disk) -> Iterator[Figure]:
    """Every figure, as soon as there is one: bytes stored of an element, and what is behind."""
    for name in WORKLOADS:
        counts = footprint(name, plan.seed)
        measured = {
            "stored B": counts.stored_bytes / ELEMENTS,
            "of them records B": counts.record_bytes / ELEMENTS,
            "sent B": counts.sent_bytes / ELEMENTS,
            "records sent": counts.records_sent / ELEMENTS,
            "store calls of one more": counts.store_calls,
        }
        ratio = counts.stored_bytes / ELEMENTS
        yield Figure(f"bytes stored of an element: {name}", None, [Round(ratio, measured)])


if __name__ == "__main__":
    sys.exit(command.run("What an element costs, by type, in counts.", measure))
