"""What replicas say to each other: read back as it was said, refused when it is anything else."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from crdtdb import codec
from crdtdb.errors import PeerError
from crdtdb.replication import messages
from crdtdb.replication.messages import (
    Message,
    Sender,
    read_frame,
    read_sender,
    read_vector,
    write_frame,
    write_sender,
)
from crdtdb_server.peers.envelope import open_body, open_sender, seal_body, seal_sender
from laws.vectors import vectors

flats = vectors.map(lambda vector: vector.flat())
times = st.integers(0, 2**64 - 1)
counters = st.integers(0, 2**63 - 1)
incarnations = st.integers(0, 2**64 - 1)
entries = st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=3)
claims = st.none() | st.builds(messages.Claim, flats, times)
reports = st.dictionaries(incarnations, flats, max_size=3)

said: dict[type[Any], st.SearchStrategy[Any]] = {
    messages.Hello: st.builds(messages.Hello, counters),
    messages.Welcome: st.builds(messages.Welcome, counters),
    messages.Remembered: st.builds(messages.Remembered, counters, flats),
    messages.Acquainted: st.builds(
        messages.Acquainted, counters, flats, st.lists(incarnations, max_size=3)
    ),
    messages.Digest: st.builds(messages.Digest, times, times, times),
    messages.Same: st.builds(messages.Same, times, times, incarnations, counters),
    messages.Summary: st.builds(messages.Summary, flats, times, reports, st.booleans()),
    messages.News: st.builds(messages.News, flats, times, st.booleans()),
    messages.Pull: st.builds(messages.Pull, times, incarnations, counters, flats, flats),
    messages.Page: st.builds(
        messages.Page, times, counters, incarnations, counters, entries, claims
    ),
    messages.Push: st.builds(
        messages.Push, incarnations, counters, counters, flats, times, entries
    ),
    messages.Received: st.builds(messages.Received, incarnations, counters),
    messages.Gone: st.builds(messages.Gone, times, flats),
    messages.Mend: st.builds(
        messages.Mend,
        times,
        incarnations,
        counters,
        flats,
        st.lists(st.binary(max_size=8), max_size=3),
    ),
    messages.Mended: st.builds(
        messages.Mended, times, st.builds(messages.Claim, flats, times), entries, entries
    ),
    messages.Copy: st.builds(messages.Copy, times, st.binary(max_size=8), flats),
    messages.Copied: st.builds(
        messages.Copied,
        times,
        st.binary(max_size=8),
        incarnations,
        counters,
        entries,
        st.booleans(),
        counters,
    ),
    messages.Refused: st.builds(messages.Refused, st.text(max_size=8)),
    messages.Evicted: st.builds(messages.Evicted, incarnations),
}
anything = st.one_of(*said.values())
senders = st.builds(
    Sender,
    st.text(max_size=4),
    incarnations,
    st.text(max_size=4),
    st.text(max_size=4),
    st.text(max_size=4),
    st.booleans(),
)


def test_every_message_is_tried() -> None:
    assert set(said) == set(get_args(Message))


@given(anything)
def test_a_message_is_read_back_from_its_frame(message: Message) -> None:
    frame = write_frame(message)
    assert read_frame(frame) == message
    assert write_frame(read_frame(frame)) == frame


@given(anything, st.data())
def test_a_damaged_frame_is_refused(message: Message, data: st.DataObject) -> None:
    frame = write_frame(message)
    position = data.draw(st.integers(0, len(frame) - 1))
    damaged = bytearray(frame)
    damaged[position] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(damaged), frame[:position]):
        with pytest.raises(PeerError) as caught:
            read_frame(bad)
        is_second = len(bad) > 9 and bad[0] == 2  # whose checksum does not cover the version
        assert caught.value.reason == ("newer-version" if is_second else "bad-frame")


@given(anything, st.binary(), st.data())
def test_a_forged_frame_is_refused_or_a_message(
    message: Message, junk: bytes, data: st.DataObject
) -> None:
    """The checksum is no secret."""
    body = write_frame(message)[9:]
    at = data.draw(st.integers(0, len(body)))
    for forged in (junk, body[:at] + junk, body[:at] + junk + body[at + len(junk) :]):
        frame = b"\x01" + xxhash.xxh3_64_digest(forged) + forged
        try:
            read = read_frame(frame)
        except PeerError:
            continue
        assert read_frame(write_frame(read)) == read


@pytest.mark.parametrize("number", [-1, 2**63, 2**64 - 1])
@pytest.mark.parametrize(
    "fields",
    [
        (1, None),
        (2, None),
        (4, 0, 0, 0, None),
        (6, 0, 0, None, [], []),
        (7, 0, None, 0, 0, [], None),
        (7, 0, 0, 0, None, [], None),
        (8, 1, None, 1, [], 0, []),
        (8, 1, 1, None, [], 0, []),
        (9, 1, None),
    ],
    ids=repr,
)
def test_a_counter_that_no_state_can_hold_is_refused(fields: tuple[Any, ...], number: int) -> None:
    """What gets in must be read again when the replica starts."""
    message = [number if field is None else field for field in fields]
    with pytest.raises(PeerError):
        read_frame(codec.pack_whole(1, message))


@given(st.lists(st.integers(-1, 3)))
def test_a_vector_is_refused_or_canonical(flat: list[int]) -> None:
    try:
        vector = read_vector(flat)
    except PeerError as error:
        reason = error.reason
    else:
        reason = "bad-vector" if vector.flat() != flat else ""
    assert reason in ("", "bad-vector", "unknown-floor")
    if reason == "unknown-floor":
        assert len(flat) % 2 == 1


# Who speaks ---------------------------------------------------------------------------------------


@given(senders)
def test_a_sender_is_read_back(sender: Sender) -> None:
    assert read_sender(write_sender(sender)) == sender
    assert open_sender(seal_sender(sender)) == sender


@given(senders, st.binary(max_size=4), st.data())
def test_a_damaged_sender_is_refused_or_another(
    sender: Sender, junk: bytes, data: st.DataObject
) -> None:
    whole = write_sender(sender)
    at = data.draw(st.integers(0, len(whole)))
    try:
        read = read_sender(whole[:at] + junk + whole[at + len(junk) :])
    except PeerError as error:
        assert error.reason == "bad-frame"  # noqa: PT017 - or it is read
    else:
        assert read_sender(write_sender(read)) == read


@given(st.text(max_size=20))
def test_a_header_is_refused_or_a_sender(header: str) -> None:
    try:
        assert isinstance(open_sender(header), Sender)
    except PeerError as error:
        assert error.reason == "bad-frame"  # noqa: PT017 - or it is read


# Bodies -------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=400), max_size=5))
def test_frames_are_read_back_from_a_body(frames: list[bytes]) -> None:
    assert open_body(*seal_body(frames)) == frames


@given(st.binary(), st.sampled_from([None, "zstd", "identity", "gzip"]))
def test_a_body_is_refused_or_made_of_frames(body: bytes, encoding: str | None) -> None:
    try:
        frames = open_body(body, encoding)
    except PeerError:
        return
    assert encoding == "zstd" or sum(4 + len(frame) for frame in frames) == len(body)
