"""Records as bytes: what is written is read back, and nothing else is ever read."""

from __future__ import annotations

from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from crdtdb import codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.codec import FormatError
from crdtdb.record import EMPTY, Record, join
from crdtdb.types import CATALOGUE
from laws.states import reached
from laws.vectors import dots, vectors
from replicas import missing

AT = b"\x10shop\0newer\0k\0\x02"

#: Whatever the format can hold.
payloads: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    live = draw(st.dictionaries(dots, payloads, max_size=4))
    return Record(live, VersionVector.of(live).join(draw(vectors)))


@given(records())
def test_a_record_is_read_back(record: Record) -> None:
    assert codec.decode_record(AT, codec.encode_record(AT, record)) == record


@given(records(), st.randoms(use_true_random=False))
def test_equal_records_give_equal_bytes(record: Record, random: Any) -> None:
    live, context = list(record.live.items()), list(record.context.items())
    random.shuffle(live)
    random.shuffle(context)
    same = Record(dict(live), VersionVector(dict(context)))
    assert codec.encode_record(AT, same) == codec.encode_record(AT, record)


@given(records(), vectors, vectors)
def test_where_nothing_is_a_record_is_joined_as_anywhere(
    record: Record, seen: VersionVector, senders: VersionVector
) -> None:
    """What the replica has seen and does not hold was removed there."""
    by_the_rule = join(Record({}, NOTHING), record, seen, senders)
    assert join(EMPTY, record, seen, senders) == by_the_rule


@given(records(), records())
def test_different_records_give_different_bytes(a: Record, b: Record) -> None:
    equal = _exactly(a) == _exactly(b)
    assert (codec.encode_record(AT, a) == codec.encode_record(AT, b)) == equal


def _exactly(record: Record) -> Any:
    """Tells apart what Python's == does not, 1 and 1.0 and True, and -0.0 and 0.0."""
    return record.context, sorted((dot, repr(payload)) for dot, payload in record.live.items())


@given(records(), st.data())
def test_a_damaged_record_is_never_read(record: Record, data: st.DataObject) -> None:
    whole = codec.encode_record(AT, record)
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(damaged), whole[:position]):
        with pytest.raises(FormatError):
            codec.decode_record(AT, bad)


@given(records(), st.binary(min_size=1, max_size=3))
def test_a_record_is_read_at_its_address_only(record: Record, more: bytes) -> None:
    whole = codec.encode_record(AT, record)
    for other in (AT + more, AT[:-1]):
        with pytest.raises(FormatError):
            codec.decode_record(other, whole)


def _check_read(data: bytes) -> None:
    """Anything is either refused with FormatError or a record that can be written again."""
    try:
        record = codec.decode_record(AT, data)
    except FormatError:
        return
    again = codec.encode_record(AT, record)
    assert codec.encode_record(AT, codec.decode_record(AT, again)) == again


@given(st.binary(), records())
def test_random_bytes_are_refused_or_sound(junk: bytes, record: Record) -> None:
    """Also when somebody made the checksum fit."""
    _check_read(junk)
    body = codec.encode_record(AT, record)[9:]
    for end in (b"", body[-1:], body[1:]):
        forged = body[: len(body) // 2] + junk + end
        _check_read(b"\x01" + xxhash.xxh3_64_digest(AT + forged) + forged)


@pytest.mark.parametrize("type_name", CATALOGUE)
@given(st.data())
def test_what_a_type_leaves_is_written_the_same_by_every_replica(
    type_name: str, data: st.DataObject
) -> None:
    for replica in data.draw(reached(type_name)).replicas:
        for at, stored in missing(replica.store, VersionVector()):
            record = codec.decode_record(at, stored)
            assert codec.encode_record(at, record) == stored
            assert codec.decode_record(at, codec.encode_record(at, record)) == record


@given(records(), records())
def test_a_digest_tells_what_users_see_apart(a: Record, b: Record) -> None:
    same = codec.live_digest(AT, a.live) == codec.live_digest(AT, b.live)
    assert same == (_exactly(a)[1] == _exactly(b)[1])
    assert (codec.live_digest(AT, a.live) == 0) == (not a.live)
    if a.live:
        assert codec.live_digest(AT, a.live) != codec.live_digest(AT + b"x", a.live)
