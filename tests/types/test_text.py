"""`text`, told with a few replicas, and with Yjs editors."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Text

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.errors import BadRequest, InvalidOperation, PeerError, TooLarge
from crdtdb.limits import Limits
from crdtdb.record import Record
from crdtdb.transaction import Erase, Transaction
from crdtdb.types import _document
from crdtdb.types import text as text_module
from crdtdb.types._yjs import EDITORS, client_of, editor_of, read_state, read_update
from operations import Plain
from oracle.checks import check_books
from replicas import Replica, exchange, missing, update
from traces import read_trace, replay

TEXT: Final = ObjectName("shop", "text", "k")


def do(replica: Replica, op: str, **arguments: Any) -> Any:
    return replica.do("text", op, **arguments)


def shown(replica: Replica) -> str:
    value: str = replica.value("text")
    return value


def lacking(replica: Replica, since: bytes = b"") -> bytes:
    with replica.reading() as reading:
        return reading.difference(TEXT, since)


# Edits --------------------------------------------------------------------------------------------


def test_positions_count_code_points() -> None:
    a = Replica(1)
    assert do(a, "insert", text="a𝄞c").size == 3
    assert do(a, "insert", index=2, text="é€").size == 5
    assert shown(a) == "a𝄞é€c"
    assert do(a, "delete", index=1, length=2).size == 3
    do(a, "insert", index=1, text="b")
    assert shown(a) == "ab€c"
    do(a, "insert", text="!")
    assert shown(a) == "ab€c!"


def test_what_is_typed_at_once_at_one_place_stays_together() -> None:
    a, b = Replica(1), Replica(2)
    do(a, "insert", text="<>")
    exchange(a, b)
    for number, (one, two) in enumerate(zip("abc", "xyz", strict=True), 1):
        do(a, "insert", index=number, text=one)
        do(b, "insert", index=1, text=two)
    exchange(a, b)
    assert shown(a) == shown(b)
    assert shown(a) in ("<abczyx>", "<zyxabc>")
    assert a.digest() == b.digest()


@pytest.mark.parametrize("erase", [False, True])
def test_a_delete_takes_what_was_seen_and_nothing_more(erase: bool) -> None:
    a, b = Replica(1), Replica(2)
    do(a, "insert", text="old")
    exchange(a, b)
    do(b, "insert", index=1, text="new")
    if erase:
        assert a.commit(Erase(TEXT.prefix)).outcomes[0].results[0].size == 1
    else:
        assert do(a, "delete").changed
    assert (shown(a), a.exists("text")) == ("", False)
    exchange(a, b)
    assert shown(a) == shown(b) == "new"
    do(a, "insert", index=3, text="er")
    exchange(a, b)
    assert shown(b) == "newer"
    assert not do(Replica(3), "delete").changed


def test_the_edits_of_a_transaction_travel_as_one_operation() -> None:
    a, b = Replica(1), Replica(2)
    edits = [update(TEXT, {"op": "insert", "index": n, "text": "x"}) for n in range(50)]
    committed = a.commit(*edits)
    stamps = [result.stamp for result in committed.outcomes[0].results]
    assert [stamp.dot[1] for stamp in stamps if stamp] == [*range(1, 51)]
    assert committed.push is not None
    assert len(committed.push.records) == 1
    assert b.receive(committed.push)
    assert shown(b) == "x" * 50


def test_a_transaction_that_fails_leaves_no_trace() -> None:
    a = Replica(1)
    do(a, "insert", text="abc")
    rows = a.rows()
    with pytest.raises(InvalidOperation):
        a.commit(
            update(TEXT, {"op": "insert", "index": 0, "text": "zz"}),
            update(TEXT, {"op": "delete", "index": 9, "length": 1}),
        )
    views = ObjectName("shop", "opcounter", "k")
    with pytest.raises(InvalidOperation):
        a.commit(
            update(TEXT, {"op": "delete"}),
            update(views, {"op": "increment"}),
            update(TEXT, {"op": "insert", "index": 9, "text": "zz"}),
        )
    assert a.rows() == rows
    do(a, "insert", index=1, text="-")
    assert shown(a) == "a-bc"
    check_books(a.store)


def test_what_a_group_of_transactions_does_when_one_of_them_fails() -> None:
    a = Replica(1)
    in_vain = update(ObjectName("shop", "list", "k"), {"op": "delete", "index": 0})
    group = [
        Transaction((update(TEXT, {"op": "insert", "text": "abc"}),)),
        Transaction((update(TEXT, {"op": "delete", "index": 0, "length": 1}), in_vain)),
        Transaction((update(TEXT, {"op": "insert", "index": 1, "text": "-"}),)),
    ]
    outcomes = a.engine.commit(group).outcomes
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert shown(a) == "a-bc"
    check_books(a.store)


def test_documents_that_are_not_kept_are_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_document, "_kept", _document._Kept())
    monkeypatch.setattr(_document, "LIMITS", Limits(document_bytes=10_000))
    for number in range(20):
        a = Replica(1)
        do(a, "insert", text="abc" * number + "d")
        do(a, "insert", index=0, text="-")
        assert shown(a) == "-" + "abc" * number + "d"
    assert 0 < _document._kept.held_bytes <= 10_000


def test_no_two_incarnations_type_as_one_client() -> None:
    a = Replica(1)
    do(a, "insert", text="a")
    first = a.engine.state.incarnation
    a.reopen(b"moved")
    do(a, "insert", text="b")
    assert a.engine.state.incarnation != first
    assert read_state(_state(lacking(a))) == {
        client_of(incarnation): 1 for incarnation in (first, a.engine.state.incarnation)
    }


def test_what_is_stable_is_folded_and_a_newcomer_gets_it() -> None:
    a, b = Replica(1), Replica(2)
    for number in range(5):
        do(a, "insert", index=number, text="x")
    do(a, "delete", index=1, length=3)
    exchange(a, b)
    a.reclaim()
    assert len(missing(a.store, VersionVector())) == 1
    newcomer = Replica(9)
    newcomer.pull(a)
    do(newcomer, "insert", index=1, text="y")
    do(b, "insert", index=1, text="z")
    exchange(a, b, newcomer)
    assert shown(a) == shown(b) == shown(newcomer)
    assert len(shown(a)) == 4
    for replica in (a, b, newcomer):
        check_books(replica.store)


@pytest.mark.parametrize(
    ("op", "arguments", "error", "field"),
    [
        ("insert", {"text": ""}, BadRequest, "text"),
        ("insert", {"text": 1}, BadRequest, "text"),
        ("insert", {"text": "\ud800"}, BadRequest, "text"),
        ("insert", {"index": 4, "text": "x"}, InvalidOperation, "index"),
        ("insert", {"index": -1, "text": "x"}, BadRequest, "index"),
        ("delete", {"index": 0}, BadRequest, "length"),
        ("delete", {"length": 1}, BadRequest, "index"),
        ("delete", {"index": 0, "length": 0}, BadRequest, "length"),
        ("delete", {"index": 3, "length": 1}, InvalidOperation, "index"),
        ("delete", {"index": 1, "length": 3}, InvalidOperation, "length"),
        ("delete", {"seen": VersionVector()}, InvalidOperation, "seen"),
        ("update", {"yjs": "!!!!"}, BadRequest, "yjs"),
        ("update", {"yjs": "AQEJ"}, BadRequest, "yjs"),
    ],
)
def test_what_a_text_cannot_do_changes_nothing(
    op: str, arguments: dict[str, Any], error: type[Exception], field: str
) -> None:
    a = Replica(1)
    do(a, "insert", text="abc")
    rows = a.rows()
    with pytest.raises(error) as refused:
        do(a, op, **arguments)
    assert isinstance(refused.value, BadRequest | InvalidOperation)
    assert refused.value.fields[0].field == field
    assert a.rows() == rows


def test_a_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "LIMITS", Limits(text_bytes=10))
    a = Replica(1)
    do(a, "insert", text="12345€")
    with pytest.raises(TooLarge, match="8 bytes, and 10 at most") as refused:
        do(a, "insert", text="€")
    assert refused.value.fields[0].limit == 10
    do(a, "insert", text="ab")
    do(a, "delete", index=5, length=1)
    do(a, "insert", text="€")
    assert shown(a) == "12345ab€"


def test_a_text_is_imported_without_pycrdt() -> None:
    """It brings an asynchronous framework along, which embedded databases need not have."""
    script = (
        "import sys, crdtdb\n"
        "crdtdb.Database.in_memory().text('home', 'note').get()\n"
        "assert not {'asyncio', 'pycrdt', 'anyio', 'aiohttp'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Yjs editors --------------------------------------------------------------------------------------


class _Editor:
    """A document as an editor has it that types at one replica."""

    def __init__(self, replica: Replica, number: int = 1) -> None:
        if not replica.engine.state.incarnation:
            replica.engine.take_incarnation()
        client = editor_of(replica.engine.state.incarnation, number)
        self.doc: Doc[Any] = Doc(client_id=client)
        self.text: Text = self.doc.get("text", type=Text)

    def update(self, since: bytes | None = None) -> str:
        return b64encode(self.doc.get_update(since)).decode()

    def exchange(self, replica: Replica) -> None:
        """What each lacks of the other."""
        self.doc.apply_update(lacking(replica, self.doc.get_state()))
        do(replica, "update", yjs=self.update())


def test_editors_take_part() -> None:
    a, b = Replica(1), Replica(2)
    ann, bo = _Editor(a), _Editor(b)
    ann.text += "hello"
    ann.exchange(a)
    exchange(a, b)
    bo.exchange(b)
    bo.text += " 𝄞"
    do(a, "insert", index=0, text="> ")
    del ann.text[0:1]
    for _ in range(2):
        ann.exchange(a)
        bo.exchange(b)
        exchange(a, b)
    assert {shown(a), shown(b), str(ann.text), str(bo.text)} == {"> ello 𝄞"}


def test_what_is_known_already_changes_nothing() -> None:
    a = Replica(1)
    ann = _Editor(a)
    ann.text += "hello"
    del ann.text[1:2]
    assert do(a, "update", yjs=ann.update()).changed
    rows = a.rows()
    assert not do(a, "update", yjs=ann.update()).changed
    assert a.rows() == rows


def test_only_what_a_document_lacks_is_given_out() -> None:
    a = Replica(1)
    ann = _Editor(a)
    do(a, "insert", text="x" * 10_000)
    ann.exchange(a)
    do(a, "insert", text="y")
    assert len(lacking(a, ann.doc.get_state())) < 50
    with pytest.raises(BadRequest, match="state vector"):
        lacking(a, b"\xff\xff")
    assert read_update(lacking(Replica(3))).texts == ()


def test_an_update_that_goes_on_from_something_missing_is_refused() -> None:
    a = Replica(1)
    ann = _Editor(a)
    ann.text += "hello"
    state = ann.doc.get_state()
    ann.text += "!"
    for later in (ann.update(state), _deleted(ann)):
        with pytest.raises(InvalidOperation, match="send all that it lacks"):
            do(a, "update", yjs=later)
    assert shown(a) == ""
    ann.exchange(a)
    assert shown(a) == "ello!"


def _deleted(editor: _Editor) -> str:
    state = editor.doc.get_state()
    del editor.text[0:1]
    return editor.update(state)


@pytest.mark.parametrize("number", [-1, 0, EDITORS + 1])
def test_nobody_types_under_a_client_id_that_the_replica_has_not_given_out(number: int) -> None:
    """Another replica could take in other edits under it; its own (0) is its own."""
    a = Replica(1)
    do(a, "insert", text="a")
    rows = a.rows()
    forged = _Editor(a, number)
    forged.text += "zz"
    with pytest.raises(InvalidOperation, match="not given out") as refused:
        do(a, "update", yjs=forged.update())
    assert refused.value.fields[0].field == "yjs"
    assert a.rows() == rows


def test_an_editor_types_at_the_replica_that_it_belongs_to() -> None:
    """What it typed there, it may tell others again; what is new, only its own replica."""
    a, b = Replica(1), Replica(2)
    ann = _Editor(a)
    ann.text += "hello"
    ann.exchange(a)
    with pytest.raises(InvalidOperation, match="not given out"):
        ann.exchange(b)
    exchange(a, b)
    ann.exchange(b)
    ann.text += "!"
    with pytest.raises(InvalidOperation, match="not given out"):
        ann.exchange(b)
    assert shown(a) == shown(b) == "hello"


def test_a_client_id_never_stands_for_two_texts() -> None:
    """Two editors are told apart by who comes first; so are an editor and what it once was."""
    a = Replica(1)
    ann, bo = _Editor(a), _Editor(a)
    ann.text += "he𝄞llo"
    bo.text += "he𝄞l, you"
    ann.exchange(a)
    rows = a.rows()
    with pytest.raises(InvalidOperation, match="two editors"):
        do(a, "update", yjs=bo.update())
    assert a.rows() == rows
    del ann.text[0:2]
    ann.text += "w"
    ann.exchange(a)
    assert shown(a) == str(ann.text)


_Typing = st.tuples(
    st.sampled_from("abc"),  # whose client id, c's nobody's
    st.integers(1, 2),
    st.text("xy", min_size=1, max_size=3),
    st.sampled_from("ab"),  # where it is sent
    st.booleans(),  # do the replicas meet then?
)


@settings(max_examples=60)
@given(st.lists(_Typing, max_size=12))
def test_replicas_agree_whatever_comes_under_whatever_client_id(typing: list[Any]) -> None:
    replicas = {"a": Replica(1), "b": Replica(2)}
    others = {**replicas, "c": Replica(3)}
    for whose, number, text, where, meet in typing:
        editor = _Editor(others[whose], number)  # anew: it does not know what it has typed
        editor.text += text
        with suppress(InvalidOperation):
            do(replicas[where], "update", yjs=editor.update())
        if meet:
            exchange(*replicas.values())
    exchange(*replicas.values())
    assert shown(replicas["a"]) == shown(replicas["b"])
    assert len({_state(lacking(replica)) for replica in replicas.values()}) == 1


def test_only_plain_text_under_its_name_is_taken_in() -> None:
    formatted, elsewhere, other = (_Editor(Replica(1), number) for number in (1, 2, 3))
    formatted.text.insert(0, "bold", {"bold": True})
    elsewhere.doc.get("title", type=Text).insert(0, "x")
    other.doc.get("items", type=Array).append(1)
    for editor in (formatted, elsewhere, other):
        with pytest.raises(BadRequest, match="plain text under the name"):
            do(Replica(1), "update", yjs=editor.update())


def _state(update: bytes) -> bytes:
    """The state vector of a document that an update makes."""
    doc: Doc[Any] = Doc(client_id=1)
    doc.apply_update(update)
    return doc.get_state()


# What peers send ----------------------------------------------------------------------------------

_WRITER: Final = (77, 5)


def _updates() -> list[bytes]:
    """Updates as replicas write them."""
    a, b = Replica(1), Replica(2)
    ann = _Editor(b)
    for replica in (a, b):
        do(replica, "insert", text="hé𝄞")
    exchange(a, b)
    do(b, "delete", index=1, length=3)
    ann.exchange(b)
    ann.text.insert(1, "ab")
    ann.exchange(b)
    exchange(a, b)
    records = (codec.decode_record(*entry) for entry in missing(a.store, VersionVector()))
    return [payload for record in records for payload in record.live.values()] + [lacking(a)]


_UPDATES: Final = _updates()


@given(st.sampled_from(_UPDATES), st.data())
def test_hostile_bytes_are_refused_whole_or_harmless(sound: bytes, data: st.DataObject) -> None:
    """They pass the format, or not; what passes either fits the text or is refused, too."""
    forged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(forged) - 1))
        forged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    a = Replica(1)
    do(a, "insert", text="hé𝄞")
    rows = a.rows()
    try:
        _merge(a, address.operation(TEXT, _WRITER), bytes(forged))
    except PeerError:
        assert a.rows() == rows
    check_books(a.store)
    do(a, "insert", index=0, text="still ")
    assert shown(a).startswith("still ")


@pytest.mark.parametrize(
    "payload",
    [
        "text",
        b"",
        b"\0",
        b"\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\0",
        b"\x01\xff\xff\xff\x7f\x09\x00\x04\x01\x04text\x01a\0",
        b"\x01\x01\x09\x00\x04\x01\x04text\xff\xff\xff\xff\x07a\0",
        b"\x01\x01\x09\x00\x04\x01\x04text\x01\xff\0",
        b"\x01\x01\x09\x00\x08\x01\x04text\x01\x7d\x01\0",
        b"\x01\x01\x09\x00\x84\x09\x05\x01a\0",
        b"\x01\x01\x09\x05\x04\x01\x04text\x01a\0",
        b"\0\x01\x09\x01\x00\x01",
    ],
)
def test_an_operation_that_no_text_writes_is_refused(payload: Any) -> None:
    _refused(address.operation(TEXT, _WRITER), payload)


@pytest.mark.parametrize(
    "stored",
    [
        [b"\x01\x01\x09\x00\x04\x01\x04text\x01a\0", "b"],
        [b"\x01\x01\x09\x05\x04\x01\x04text\x01a\0", ""],
        [b"\xff", ""],
        [b"\0\0"],
    ],
)
def test_a_base_that_no_text_folds_is_refused(stored: Any) -> None:
    _refused(address.base(TEXT), stored)


def _refused(at: bytes, payload: Any) -> None:
    a = Replica(1)
    do(a, "insert", text="a")
    rows = a.rows()
    with pytest.raises(PeerError) as refused:
        _merge(a, at, payload)
    assert refused.value.reason == "bad-record"
    assert a.rows() == rows


def _merge(replica: Replica, at: bytes, payload: Any) -> None:
    record = Record({_WRITER: payload}, VersionVector.of([_WRITER]))
    seen = replica.seen.with_dot((77, 9))
    replica.merge([(at, codec.encode_record(at, record))], seen, 0)


# Real input ---------------------------------------------------------------------------------------


def test_recorded_typing_ends_in_its_text(trace_path: Path) -> None:
    trace = read_trace(trace_path)
    texts = [shown_as(author) for author in replay(trace, TEXT, _patched)]
    assert texts == [trace.text] * trace.authors


def shown_as(replica: Replica) -> Any:
    with replica.reading() as reading:
        return reading.value(TEXT, reading.head(TEXT.prefix))


def _patched(position: int, deleted: int, text: str) -> list[Plain]:
    operations: list[Plain] = []
    if deleted:
        operations.append({"op": "delete", "index": position, "length": deleted})
    if text:
        operations.append({"op": "insert", "index": position, "text": text})
    return operations
