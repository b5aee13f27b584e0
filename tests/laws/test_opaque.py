"""Tokens and cursors: read back by whoever gave them, for what they were given, unchanged."""

from __future__ import annotations

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.causal import NOTHING, VersionVector
from crdtdb.changes import ChangeCursor
from crdtdb.cursor import read_cursor, write_cursor
from crdtdb.errors import BadRequest, BadToken
from crdtdb.limits import LIMITS
from crdtdb.opaque import from_opaque, to_opaque
from crdtdb.token import TokenKind, join_tokens, read_token, write_token
from laws.vectors import vectors

kinds = st.sampled_from(TokenKind)
clusters = st.sampled_from(["crdtdb", "", "другой"])
numbers = st.integers(0, 2**63 - 1)
change_cursors = st.builds(ChangeCursor, st.integers(0, 2**64 - 1), numbers, vectors)


def damaged(text: str, data: st.DataObject) -> str:
    """The text with one character changed, left out, or put in."""
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, min(at + 1, len(text))))
    filling = data.draw(st.text("aA0-_=+/ é\n", max_size=1))
    bad = text[:at] + filling + text[end:]
    return bad if bad != text else text + "A"


# Opaque text --------------------------------------------------------------------------------------


@given(st.binary())
def test_bytes_are_read_back_from_their_text(data: bytes) -> None:
    text = to_opaque(data)
    assert from_opaque(text) == data
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text(max_size=8) | st.text("Aa0-_=", max_size=8))
def test_a_text_is_refused_or_the_only_one_of_its_bytes(text: str) -> None:
    try:
        data = from_opaque(text)
    except ValueError:
        return
    assert to_opaque(data) == text


# Tokens -------------------------------------------------------------------------------------------


@given(kinds, clusters, vectors)
def test_a_token_is_read_back(kind: TokenKind, cluster: str, vector: VersionVector) -> None:
    text = write_token(kind, cluster, vector)
    assert read_token(kind, cluster, text) == vector
    assert write_token(kind, cluster, vector) == text


@given(kinds, vectors)
def test_a_token_is_for_one_purpose_and_one_cluster(kind: TokenKind, vector: VersionVector) -> None:
    text = write_token(kind, "crdtdb", vector)
    (other,) = set(TokenKind) - {kind}
    with pytest.raises(BadToken, match="not "):
        read_token(other, "crdtdb", text)
    with pytest.raises(BadToken, match="another cluster"):
        read_token(kind, "crdtdb2", text)
    with pytest.raises(BadToken):
        ChangeCursor.read("crdtdb", text)


@given(kinds, clusters, vectors, vectors)
def test_joined_tokens_cover_what_both_cover(
    kind: TokenKind, cluster: str, first: VersionVector, second: VersionVector
) -> None:
    one, other = (write_token(kind, cluster, vector) for vector in (first, second))
    assert join_tokens(one, other) == write_token(kind, cluster, first.join(second))


def test_tokens_of_two_kinds_or_clusters_are_not_joined() -> None:
    token = write_token(TokenKind.SESSION, "eu", NOTHING)
    others = (
        write_token(TokenKind.READ, "eu", NOTHING),
        write_token(TokenKind.SESSION, "us", NOTHING),
        "garbled",
    )
    for other in others:
        with pytest.raises(BadToken):
            join_tokens(token, other)


@given(kinds, vectors, st.data())
def test_a_damaged_token_is_refused(
    kind: TokenKind, vector: VersionVector, data: st.DataObject
) -> None:
    with pytest.raises(BadToken):
        read_token(kind, "crdtdb", damaged(write_token(kind, "crdtdb", vector), data))


@given(kinds, st.binary())
def test_a_forged_token_is_refused_or_a_vector(kind: TokenKind, body: bytes) -> None:
    """The checksum is no secret."""
    good = from_opaque(write_token(kind, "crdtdb", NOTHING))
    inner = good[:10] + body
    try:
        vector = read_token(kind, "crdtdb", to_opaque(inner + xxhash.xxh32_digest(inner)))
    except BadToken:
        return
    assert VersionVector.from_flat(vector.flat()) == vector


@pytest.mark.parametrize("text", ["", "A", "AAAA", "é", "\ud800", "A" * (LIMITS.token_bytes + 1)])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(BadToken):
        read_token(TokenKind.SESSION, "crdtdb", text)
    with pytest.raises(BadToken):
        ChangeCursor.read("crdtdb", text)


# Page cursors -------------------------------------------------------------------------------------


@given(st.text(), st.binary())
def test_a_page_cursor_is_read_back_by_its_query(query: str, position: bytes) -> None:
    text = write_cursor(query, position)
    assert read_cursor(query, text) == position
    with pytest.raises(BadRequest) as caught:
        read_cursor(query + "x", text)
    assert caught.value.fields[0].field == "after"


@given(st.binary(), st.data())
def test_a_damaged_page_cursor_is_refused(position: bytes, data: st.DataObject) -> None:
    with pytest.raises(BadRequest):
        read_cursor("query", damaged(write_cursor("query", position), data))


# Change cursors -----------------------------------------------------------------------------------


@given(clusters, change_cursors)
def test_a_change_cursor_is_read_back(cluster: str, cursor: ChangeCursor) -> None:
    text = cursor.write(cluster)
    assert ChangeCursor.read(cluster, text) == cursor
    with pytest.raises(BadToken, match="another cluster"):
        ChangeCursor.read(cluster + "x", text)


@given(change_cursors, st.data())
def test_a_damaged_change_cursor_is_refused(cursor: ChangeCursor, data: st.DataObject) -> None:
    with pytest.raises(BadToken):
        ChangeCursor.read("crdtdb", damaged(cursor.write("crdtdb"), data))


@pytest.mark.parametrize("sequence", [-1, 2**63, 2**64 - 1])
def test_a_change_cursor_at_no_place_is_refused(sequence: int) -> None:
    with pytest.raises(BadToken):
        ChangeCursor.read("crdtdb", ChangeCursor(1, sequence, NOTHING).write("crdtdb"))
