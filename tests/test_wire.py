"""Frozen bytes: what was written once is read for ever, and is still written the same.

Each line of `wire/*.jsonl` says what it means and what its bytes are. A line is never changed;
what is new gets a new line. Bytes stand as hexadecimal digits, JSON text that is a payload as
`{"utf8": …}`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb import codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.changes import ChangeCursor
from crdtdb.conflicts import Loss, Noted, journal_rows, read_journal
from crdtdb.cursor import read_cursor, write_cursor
from crdtdb.epochs import Epochs
from crdtdb.head import Head
from crdtdb.idempotency import KeptAnswers
from crdtdb.record import Record
from crdtdb.replication import messages
from crdtdb.replication.cursors import Cursor, Cursors
from crdtdb.replication.messages import Message, Sender, read_frame, write_frame
from crdtdb.rows import (
    Steps,
    pack_cut_row,
    pack_folded,
    pack_steps,
    read_cut_row,
    read_folded,
    unpack_steps,
)
from crdtdb.state import State
from crdtdb.store.base import Table
from crdtdb.store.memory import MemoryStore
from crdtdb.token import TokenKind, read_token, write_token
from crdtdb.transaction import IdempotencyKey, Result
from crdtdb.types import CATALOGUE
from crdtdb_server.peers.envelope import open_body, open_sender, seal_body, seal_sender
from replicas import Replica, acquaint, missing, update

FOLDER: Final = Path(__file__).parent / "wire"
Vector = dict[str, Any]


def vectors(name: str) -> list[Vector]:
    return [json.loads(line) for line in FOLDER.joinpath(f"{name}.jsonl").read_text().splitlines()]


def every(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors(name), ids=lambda vector: vector["about"])


def plain(value: Any) -> Any:
    """A value with its bytes, from JSON."""
    match value:
        case {"hex": digits}:
            return bytes.fromhex(digits)
        case {"utf8": text}:
            return text.encode()
        case list():
            return [plain(item) for item in value]
    return value


# Records ------------------------------------------------------------------------------------------


@every("records")
def test_a_record(vector: Vector) -> None:
    at, whole = bytes.fromhex(vector["address"]), bytes.fromhex(vector["hex"])
    live = {(inc, n): plain(payload) for inc, n, payload in vector["live"]}
    record = Record(live, VersionVector.from_flat(vector["context"]))
    assert codec.encode_record(at, record) == whole
    assert codec.decode_record(at, whole) == record


@every("operations")
def test_what_operations_leave(vector: Vector) -> None:
    """Carried out anew, they leave these bytes; taken in, these bytes show that value.

    What is refused today was written once (`do` is null), or still comes with an import.
    """
    writer, other, reader = Replica(1), Replica(2), Replica(3)
    acquaint(writer, other)
    name = ObjectName("shop", vector["type"], "k")
    for step in vector["do"] or ():
        match step:
            case "pull":
                writer.pull(other)
            case "fold":
                writer.reclaim()
            case {"wait_ms": waited_ms}:
                writer.now_ms += waited_ms
                reader.now_ms = writer.now_ms
            case {"other": operation}:
                other.commit(update(name, operation))
            case {"restore": operation}:
                asked = update(name, operation)
                writer.commit(asked._replace(operation=asked.operation.restoring()))
            case _:
                writer.commit(update(name, step))
    records = [(bytes.fromhex(at), bytes.fromhex(data)) for at, data in vector["records"]]
    seen = writer.seen
    if vector["do"] is None:
        for at, data in records:
            seen = seen.join(codec.decode_record(at, data).context)
    else:
        assert missing(writer.store, NOTHING) == records
    reader.merge(records, seen, 0)
    assert json.loads(json.dumps(reader.value(vector["type"]))) == vector["value"]
    assert missing(reader.store, NOTHING) == records


def test_every_type_is_frozen() -> None:
    assert {vector["type"] for vector in vectors("operations")} == set(CATALOGUE)


# Rows ---------------------------------------------------------------------------------------------


KEY: Final = IdempotencyKey("once", 2**64 - 1)
ANSWER: Final = b"idempotency/answer/once"


def steps(vector: Vector) -> Steps:
    *numbers, done = plain(vector["steps"])
    fingerprint, checkpoint_bytes, steps_bytes = numbers
    return Steps(fingerprint, checkpoint_bytes, steps_bytes, [tuple(one) for one in done])


def write_row(vector: Vector) -> bytes:
    match vector["row"]:
        case "record":
            at, record = bytes.fromhex(vector["address"]), bytes.fromhex(vector["record"])
            return codec.pack_row(vector["sequence"], at, record)
        case "head":
            return head(vector["head"]).encode()
        case "state":
            return state(vector["state"]).encode()
        case "folded":
            return pack_folded(vector["folded"])
        case "steps":
            return pack_steps(steps(vector))
        case "cut":
            return pack_cut_row(VersionVector.from_flat(vector["vector"]))
        case "epochs":
            return epochs(vector["epochs"]).encode()
        case "cursor":
            with MemoryStore().snapshot() as snapshot:
                rows = Cursors(snapshot).rows({vector["donor"]: Cursor(*vector["cursor"])})
            row = rows[bytes.fromhex(vector["key"])]
            assert row is not None
            return row
        case "conflict":
            with MemoryStore().snapshot() as snapshot:
                row = journal_rows(snapshot, [loss(vector)], vector["at_ms"])[
                    bytes.fromhex(vector["key"])
                ]
            assert row is not None
            return row
        case "answer":
            seen = VersionVector.from_flat(vector["seen"])
            with MemoryStore().snapshot() as snapshot:
                kept = KeptAnswers(snapshot, vector["now_ms"])
                kept.keep(KEY, results(vector), seen)
                row = kept.rows()[ANSWER]
            assert row is not None
            return row
    raise AssertionError(vector)


def stored(table: Table, key: bytes, row: bytes) -> MemoryStore:
    store = MemoryStore()
    store.commit({table: {key: row}})
    return store


def loss(vector: Vector) -> Loss:
    kept, *lost = (((inc, n), plain(payload)) for inc, n, payload in vector["kept_and_lost"])
    return Loss(bytes.fromhex(vector["address"]), kept, lost)


def results(vector: Vector) -> tuple[Result, ...]:
    return tuple(Result(*fields) for fields in vector["results"])


def head(fields: Vector) -> Head:
    cut = None if fields["cut"] is None else VersionVector.from_flat(fields["cut"])
    return Head(**{**fields, "context": VersionVector.from_flat(fields["context"]), "cut": cut})


def state(fields: Vector) -> State:
    seen, location = VersionVector.from_flat(fields["seen"]), bytes.fromhex(fields["location"])
    return State(**{**fields, "seen": seen, "location": location})


def epochs(pairs: list[tuple[int, int]]) -> Epochs:
    return Epochs(tuple((name, place) for name, place in pairs))


@every("rows")
def test_a_row(vector: Vector) -> None:
    row = bytes.fromhex(vector["hex"])
    assert write_row(vector) == row
    match vector["row"]:
        case "record":
            at, record = bytes.fromhex(vector["address"]), bytes.fromhex(vector["record"])
            assert codec.row_record(at, row) == record
            assert codec.decode_row(at, row) == (
                codec.decode_record(at, record),
                vector["sequence"],
            )
        case "head":
            assert Head.decode(row) == head(vector["head"])
        case "state":
            assert State.decode(row) == state(vector["state"])
        case "folded":
            with stored(Table.FOLDED, b"k", row).snapshot() as snapshot:
                assert read_folded(snapshot, b"k") == vector["folded"]
        case "steps":
            assert unpack_steps(b"k", row) == steps(vector)
        case "cut":
            assert read_cut_row(row).flat() == vector["vector"]
        case "epochs":
            assert Epochs.decode(row) == epochs(vector["epochs"])
        case "cursor":
            with stored(Table.META, bytes.fromhex(vector["key"]), row).snapshot() as snapshot:
                assert Cursors(snapshot).of(vector["donor"]) == Cursor(*vector["cursor"])
        case "conflict":
            with stored(Table.CONFLICTS, bytes.fromhex(vector["key"]), row).snapshot() as snapshot:
                page = read_journal(snapshot, lambda name: True, None, 1)
            assert page == ([Noted(loss(vector), vector["at_ms"])], None)
        case "answer":
            with stored(Table.META, ANSWER, row).snapshot() as snapshot:
                replay = KeptAnswers(snapshot, vector["now_ms"]).replay(KEY)
            assert replay == (results(vector), VersionVector.from_flat(vector["seen"]))


# What callers hold --------------------------------------------------------------------------------


@every("token")
def test_a_token(vector: Vector) -> None:
    kind, cluster = TokenKind[vector["kind"].upper()], vector["cluster"]
    seen = VersionVector.from_flat(vector["vector"])
    assert write_token(kind, cluster, seen) == vector["text"]
    assert read_token(kind, cluster, vector["text"]) == seen


@every("cursor")
def test_a_cursor(vector: Vector) -> None:
    match vector:
        case {"query": query, "position": digits, "text": text}:
            position = bytes.fromhex(digits)
            assert write_cursor(query, position) == text
            assert read_cursor(query, text) == position
        case {"cluster": cluster, "store_id": store_id, "sequence": sequence, "base": flat}:
            cursor = ChangeCursor(store_id, sequence, VersionVector.from_flat(flat))
            assert cursor.write(cluster) == vector["text"]
            assert ChangeCursor.read(cluster, vector["text"]) == cursor
        case _:
            raise AssertionError(vector)


# Between replicas ---------------------------------------------------------------------------------


def message(vector: Vector) -> Message:
    fields = dict(vector["fields"])
    for held in fields.keys() & {"records", "held", "rows"}:
        fields[held] = [(bytes.fromhex(at), bytes.fromhex(record)) for at, record in fields[held]]
    if "damaged" in fields:
        fields["damaged"] = [bytes.fromhex(at) for at in fields["damaged"]]
    if "after" in fields:
        fields["after"] = bytes.fromhex(fields["after"])
    if vector["message"] == "Summary":
        fields["reports"] = {int(member): flat for member, flat in fields["reports"].items()}
    if fields.get("claim") is not None:
        fields["claim"] = messages.Claim(**fields["claim"])
    made: Message = getattr(messages, vector["message"])(**fields)
    return made


@every("messages")
def test_a_message(vector: Vector) -> None:
    frame = bytes.fromhex(vector["hex"])
    assert write_frame(message(vector)) == frame
    assert read_frame(frame) == message(vector)


_counts: Final = st.dictionaries(st.integers(0, 9), st.integers(1, 300), max_size=9)


@given(_counts, st.lists(_counts, max_size=4), st.sampled_from([(), (77,)]))
def test_reports_are_read_as_they_were_told(
    seen: dict[int, int], others: list[dict[int, int]], floor: tuple[int, ...]
) -> None:
    """Whether part of what was seen or not, and above whatever floor."""
    parts = [{i: min(n, other.get(i, 0)) for i, n in seen.items()} for other in others]
    reports = [
        [*mark, *VersionVector({i: n for i, n in entries.items() if n}).flat()]
        for entries in (*others, *parts)
        for mark in (floor, (), (78,))
    ]
    whole = [*floor, *VersionVector(seen).flat()]
    told = messages.Summary(whole, 1, dict(enumerate(reports)), answer=True)
    assert read_frame(write_frame(told)) == told


def test_reports_of_many_members_take_few_bytes() -> None:
    """Among 50 replicas that all write, they once were the most of all that was said."""
    seen = [number for i in range(50) for number in (2**63 + i, 1_000 + i)]
    report = [number - (number < 2**63) for number in seen]
    frames = [
        len(write_frame(messages.Summary(seen, 0, reports, answer=True)))
        for reports in ({}, {2**63 + i: report for i in range(50)})
    ]
    assert frames[1] - frames[0] < 50 * (50 + 15)


def test_every_message_is_frozen() -> None:
    named = {vector["message"] for vector in vectors("messages")}
    assert named == {kind.__name__ for kind in get_args(Message)}


@every("envelope")
def test_an_envelope(vector: Vector) -> None:
    match vector:
        case {"sender": fields, "header": header}:
            assert seal_sender(Sender(**fields)) == header
            assert open_sender(header) == Sender(**fields)
        case {"frames": [*digits], "encoding": encoding, "body": body}:
            frames = [bytes.fromhex(frame) for frame in digits]
            assert open_body(bytes.fromhex(body), encoding) == frames
            # Compressors come in versions; what they write may differ, what it means may not.
            assert encoding or seal_body(frames) == (bytes.fromhex(body), None)
        case _:
            raise AssertionError(vector)
