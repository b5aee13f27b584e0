"""`text`: plain text that several edit at once, a Yjs document (pycrdt) behind it.

Positions and lengths count code points, at the replica that is asked; what travels is a Yjs update
that names characters. `update` takes in what a Yjs editor changed, and reads give Yjs what an
editor lacks; its document has the text under the name `text`, without formats. Editors type under
client ids that the replica gives them, and only there: an id must not come to stand for two texts.

Characters that are deleted leave their ids behind, in runs, for good: Yjs never lets these go,
since others may stand beside them. So a text takes no cut and its base stays when it is deleted.
A commit that changes a text rewrites it: O(text) bytes, whatever the number of edits.
"""

from __future__ import annotations

import binascii
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import UNSET, Meta, UnsetType

from crdtdb.causal import Dot, VersionVector
from crdtdb.datatype import Delete, DocumentType, Edited, Operation, Restored
from crdtdb.errors import BadRequest, Field, InvalidOperation, PeerError, TooLarge
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Payload
from crdtdb.types._document import Document, Refused, empty
from crdtdb.types._yjs import (
    EDITORS,
    State,
    Update,
    client_of,
    covers,
    disagree,
    editor_of,
    is_editor_of,
    read_state,
    read_update,
    write_state,
)

if TYPE_CHECKING:
    from pycrdt import Doc, Text

__all__ = ["TYPE"]

#: What one operation may bring: most of a text, replaced.
_OPERATION_BYTES: Final = 2 * LIMITS.text_bytes
#: How an update begins that brings no structs: it only deletes.
_NO_STRUCTS: Final = b"\0"
#: The state vector of who has nothing.
_NOWHERE: Final = b"\0"

_Index = Annotated[int, Meta(ge=0, le=LIMITS.step)]
_Length = Annotated[int, Meta(ge=1, le=LIMITS.step)]
_Base64 = Annotated[
    str, Meta(min_length=4, max_length=LIMITS.body_bytes, extra_json_schema={"format": "byte"})
]


class Insert(Operation, tag="insert", frozen=True):
    """Put text in at a position, counted in code points; else at the end."""

    text: Annotated[str, Meta(min_length=1, max_length=LIMITS.text_bytes)]
    index: _Index | UnsetType = UNSET


class Remove(Delete, tag="delete", frozen=True):
    """Delete so many code points from a position on; else the whole text."""

    index: _Index | UnsetType = UNSET
    length: _Length | UnsetType = UNSET

    @property
    def whole(self) -> bool:
        return self.index is UNSET and self.length is UNSET


class Merge(Operation, tag="update", frozen=True):
    """Take in what a Yjs editor changed: an update (version 1), in base64."""

    yjs: _Base64


class PlainText(DocumentType):
    name = "text"
    summary = "Text that several edit at once; Yjs editors can take part."
    operations = (Insert, Remove, Merge)
    payload = bytes
    folded = tuple[bytes, str]

    # -- writing --------------------------------------------------------------------------------

    def edit(self, folded: Any, operations: Sequence[Operation], writer: int) -> Edited:
        assert isinstance(folded, Document)
        client, shown = client_of(writer), folded.text

        def carry_out(doc: Doc[Any], text: Text) -> list[tuple[bool, int]]:
            return _Editing(doc, text, shown, client).carry_out(operations)

        outcomes, update = folded.edited(client, carry_out)
        if update is not None and len(update) > _OPERATION_BYTES:
            raise TooLarge(
                f"these edits take {len(update)} bytes; send them in several transactions of at "
                f"most {_OPERATION_BYTES}",
                Field("", "too large", _OPERATION_BYTES),
            )
        return Edited(update, outcomes)

    def empty(self) -> Document:
        return empty()

    def apply(self, folded: Any, dot: Dot, payload: Payload) -> Document:
        assert isinstance(folded, Document)
        try:
            return folded.applied(payload)
        except Refused as error:
            raise PeerError("bad-record", f"an edit of a text: {error}") from error

    # -- reading --------------------------------------------------------------------------------

    def size(self, folded: Any) -> int:
        assert isinstance(folded, Document)
        return 0 if folded.is_blank else 1

    def shown(self, folded: Any) -> str:
        assert isinstance(folded, Document)
        return folded.text

    def value(self, folded: Any) -> JsonValue:
        assert isinstance(folded, Document)
        return folded.text

    def difference(self, folded: Any, since: bytes) -> bytes:
        assert isinstance(folded, Document)
        try:
            read_state(since or _NOWHERE)
        except ValueError as error:
            raise BadRequest(
                "`since` is the state vector of a Yjs document, in base64",
                Field("since", f"no state vector: {error}"),
            ) from error
        return folded.since(since or _NOWHERE)

    def editor(self, writer: int, number: int) -> int:
        return editor_of(writer, 1 + number % EDITORS)

    def describe(self, payload: Payload) -> dict[str, Any]:
        update = read_update(payload)
        return {"inserted": list(update.texts), "deleted": update.deleted}

    # -- export, admission, storage ---------------------------------------------------------------

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        if not isinstance(value, str):
            raise BadRequest("`value` is a text", Field("value", "not a string"))
        if value:
            yield Restored({"op": "insert", "text": value})

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        if len(payload) > _OPERATION_BYTES:
            raise ValueError("an edit of a text is too large")
        read_update(payload)

    def check_removal(self, payload: Payload) -> None:
        if payload[:1] != _NO_STRUCTS:
            raise ValueError("an edit that only takes out puts something in")

    def check_base(self, stored: Any, context: VersionVector) -> None:
        super().check_base(stored, context)
        state, text = stored
        read_update(state)
        document = Document.load(state)
        document.check()
        if document.text != text:
            raise ValueError("a base shows another text than it has")

    def load(self, stored: Any) -> Document:
        state, text = stored
        return Document.load(state, text)

    def dump(self, folded: Any) -> tuple[bytes, str]:
        assert isinstance(folded, Document)
        return folded.dump()


class _Editing:
    """Edits of one document that are carried out together.

    What somebody types on, or takes out on from one place, is one edit of the Yjs document: it
    waits in a run until an edit comes that does not go on there.
    """

    __slots__ = (
        "_client",
        "_doc",
        "_gone",
        "_shown",
        "_size",
        "_size_bytes",
        "_start",
        "_text",
        "_typed",
        "_typed_size",
    )

    def __init__(self, doc: Doc[Any], text: Text, shown: str, client: int) -> None:
        self._doc = doc
        self._text = text
        self._client = client
        #: The run: from this position on so much was typed, or so much is to go.
        self._start = 0
        self._typed: list[str] = []
        self._typed_size = 0
        self._gone = 0
        self._see(shown)

    def _see(self, shown: str) -> None:
        #: What is shown but for the run, to tell where in UTF-8 a code point is; None: they are
        #: all one byte.
        self._shown = None if shown.isascii() else shown
        #: With the run; what is to go of it is still counted in bytes.
        self._size = len(shown)
        self._size_bytes = len(shown) if self._shown is None else len(shown.encode())

    def carry_out(self, operations: Sequence[Operation]) -> list[tuple[bool, int]]:
        """Of each edit: did it change anything, and how many code points are there afterwards?"""
        outcomes = [(self._carry_out(operation), self._size) for operation in operations]
        self._finish()
        return outcomes

    def _carry_out(self, operation: Operation) -> bool:
        if isinstance(operation, Insert):
            return self._insert(operation)
        if isinstance(operation, Merge):
            return self._merge(operation)
        if isinstance(operation, Remove):
            return self._remove(operation)
        assert isinstance(operation, Delete)
        return self._remove_all()

    def _finish(self) -> None:
        """Carry the run out."""
        start, shown = self._start, self._shown
        if self._typed:
            text = "".join(self._typed)
            if shown is None and not text.isascii():
                shown = str(self._text)
            self._text.insert(_offset(shown, start), text)
            if shown is not None:
                self._shown = shown[:start] + text + shown[start:]
            self._typed.clear()
            self._typed_size = 0
        elif self._gone:
            end = start + self._gone
            first, last = _offset(shown, start), _offset(shown, end)
            del self._text[first:last]
            if shown is not None:
                self._shown = shown[:start] + shown[end:]
            self._size_bytes -= last - first
            self._gone = 0

    def _insert(self, insert: Insert) -> bool:
        text, size = insert.text, len(insert.text)
        index = self._size if isinstance(insert.index, UnsetType) else insert.index
        if index > self._size:
            raise InvalidOperation(
                f"the text has {self._size} characters here; insert at 0 to {self._size}, or leave "
                "`index` out for the end",
                Field("index", "beyond the end", self._size),
            )
        if index != self._start + self._typed_size or not self._typed:
            self._finish()
            self._start = index
        size_bytes = size if text.isascii() else len(_encoded(text))
        self._check_room(size_bytes)
        self._typed.append(text)
        self._typed_size += size
        self._size += size
        self._size_bytes += size_bytes
        return True

    def _check_room(self, more_bytes: int) -> None:
        if self._size_bytes + more_bytes > LIMITS.text_bytes:
            raise TooLarge(
                f"the text has {self._size_bytes} bytes, and {LIMITS.text_bytes} at most; delete "
                "some of it, or begin another one",
                Field("text", "too many bytes", LIMITS.text_bytes),
            )

    def _remove(self, remove: Remove) -> bool:
        index, length = remove.index, remove.length
        if isinstance(index, UnsetType) and isinstance(length, UnsetType):
            return self._remove_all()
        if isinstance(index, UnsetType) or isinstance(length, UnsetType):
            given, missing = ("length", "index") if length is not UNSET else ("index", "length")
            raise BadRequest(
                "say from which `index` on, and by `length` how much; or neither, for all",
                Field(missing, f"missing beside `{given}`"),
            )
        if index + length > self._size:
            raise InvalidOperation(
                f"the text has {self._size} characters here, fewer than `index` and `length` ask "
                "for",
                Field(
                    "index" if index >= self._size else "length",
                    "beyond the end",
                    max(0, self._size - (index if index < self._size else 1)),
                ),
            )
        self._cut_out(index, length)
        return True

    def _remove_all(self) -> bool:
        if not self._size:
            return False
        self._cut_out(0, self._size)
        return True

    def _cut_out(self, start: int, length: int) -> None:
        """Forwards from where the run is, or backwards up to there, it goes on."""
        if not self._gone or self._start not in (start, start + length):
            self._finish()
        self._start = start
        self._gone += length
        self._size -= length

    def _merge(self, merge: Merge) -> bool:
        update, data = _read(merge.yjs)
        self._finish()
        before, shown = read_state(self._doc.get_state()), str(self._text)
        self._check_clients(update, before)
        self._check_room(sum(len(text.encode()) for text in update.texts))
        try:
            self._doc.apply_update(data)
        except ValueError as error:
            raise _no_update(error) from error
        after = read_state(self._doc.get_state())
        if not covers(after, update.reach):
            raise InvalidOperation(
                "the update goes on from edits that this replica does not have; send all that it "
                "lacks, by its own state vector",
                Field("yjs", "something before it is missing"),
            )
        self._see(str(self._text))
        return after != before or shown != str(self._text)

    def _check_clients(self, update: Update, before: State) -> None:
        """Refuse an id that could come to stand for two things.

        Yjs never looks at what has an id that it knows. So replicas that had taken in different
        texts under one id would differ for good; hence only one of them takes in new ids of a
        client, and it does not take in one twice.
        """
        for client, clock in update.brings.items():
            if clock > before.get(client, 0) and not is_editor_of(self._client, client):
                raise InvalidOperation(
                    f"the update has edits under the client id {client}, which this replica has "
                    "not given out, so others might take in other edits under it; get one here "
                    "(`client` of `format=yjs`) and let the editor type under that, or write the "
                    "edits by `insert` and `delete`",
                    Field("yjs", "edits under a client id of somewhere else"),
                )
        again = {run.client for run in update.runs if run.clock < before.get(run.client, 0)}
        if again and self._holds_otherwise(update, before, again):
            raise InvalidOperation(
                "the update has other text under ids that stand for something here: two editors "
                "type under one client id; get another one (`client` of `format=yjs`) for this one",
                Field("yjs", "a client id that somebody else types under"),
            )

    def _holds_otherwise(self, update: Update, before: State, clients: Collection[int]) -> bool:
        """Has the document other text of these clients? O(what they typed)."""
        since = write_state({client: n for client, n in before.items() if client not in clients})
        return disagree(read_update(self._doc.get_update(since)).runs, update.runs)


def _offset(shown: str | None, index: int) -> int:
    """Where in UTF-8 a code point is; None: they are all one byte."""
    return index if shown is None else len(shown[:index].encode())


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(
            "`text` has half of a surrogate pair; send whole characters",
            Field("text", "a lone surrogate"),
        ) from error


def _read(text: str) -> tuple[Update, bytes]:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
        if len(data) > _OPERATION_BYTES:
            raise ValueError(f"more than {_OPERATION_BYTES} bytes")
        return read_update(data), data
    except ValueError as error:
        raise _no_update(error) from error


def _no_update(error: ValueError) -> BadRequest:
    return BadRequest(
        "`yjs` is an update (version 1) of a Yjs document in base64, of plain text under the name "
        "`text`",
        Field("yjs", f"no such update: {error}"),
    )


TYPE = PlainText()
