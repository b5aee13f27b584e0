"""Documents of plain text on pycrdt: values that are never altered, on Yjs documents that are.

A `Document` is a state as bytes and the updates on top of it. It shares with those that follow it
one Yjs document, which stands where the latest of them does; one that is older than that (a
transaction failed and its draft went back) builds a document of its own when asked for something.

A Yjs document takes long to build and much memory, so those that were used last are kept, by the
bytes of their state: who reads such bytes takes the document out of the cache, and has it alone.
`LIMITS.document_bytes` bounds what the cache holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from crdtdb.errors import Problem
from crdtdb.limits import LIMITS
from crdtdb.types._yjs import ROOT, covers, read_state, read_update

if TYPE_CHECKING:
    from pycrdt import Doc, Text

__all__ = ["EMPTY", "Document", "Refused", "empty"]

#: The state of a document that nobody has written to: no structs, nothing deleted.
EMPTY: Final = b"\0\0"
#: Any client, for documents that nothing is typed into.
_NOBODY: Final = 0
#: What a document takes in memory for each byte of its state, measured on recorded typing.
_GROWTH: Final = 16

T = TypeVar("T")


class Refused(ValueError):
    """An update does not fit a document."""


class _Live:
    """A Yjs document, and what its last transaction changed."""

    __slots__ = ("client", "doc", "text", "update")

    def __init__(self, client: int, state: bytes) -> None:
        # Imported when the first text is used: pycrdt brings an asynchronous framework along.
        from pycrdt import Doc, Text

        self.client = client
        self.update: bytes | None = None
        self.doc: Doc[Any] = Doc(client_id=client)
        self.text: Text = self.doc.get(ROOT, type=Text)
        if state != EMPTY:
            self.take(state)
        self.doc.observe(self._changed)

    def _changed(self, event: Any) -> None:
        self.update = None if event.update == EMPTY else event.update

    def change(self, change: Callable[[Doc[Any], Text], T]) -> T:
        """Carry out changes together; `update` then holds them, None if there are none."""
        self.update = None
        with self.doc.transaction():
            return change(self.doc, self.text)

    def take(self, update: bytes) -> None:
        """Take an update in that has been read. Raises Refused; then the document is of no use."""
        try:
            self.doc.apply_update(update)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # pycrdt's panics are no Exceptions
            raise Refused(f"pycrdt cannot take it in: {error}") from None

    def state(self) -> dict[int, int]:
        return read_state(self.doc.get_state())


class _Kept:
    """The documents that were used last, by the bytes of their states."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._live: OrderedDict[bytes, _Live] = OrderedDict()
        self.held_bytes = 0

    def take(self, state: bytes) -> _Live | None:
        with self._lock:
            live = self._live.pop(state, None)
            if live is not None:
                self.held_bytes -= _cost_bytes(state)
            return live

    def put(self, state: bytes, live: _Live) -> None:
        with self._lock:
            if state not in self._live:
                self.held_bytes += _cost_bytes(state)
            self._live[state] = live
            self._live.move_to_end(state)
            while self.held_bytes > LIMITS.document_bytes:
                oldest, _ = self._live.popitem(last=False)
                self.held_bytes -= _cost_bytes(oldest)


def _cost_bytes(state: bytes) -> int:
    return (1 + _GROWTH) * len(state) + 4_096


_kept = _Kept()


class _Branch:
    """A state, the updates on top of it, and a Yjs document that has them all, once asked for."""

    __slots__ = ("live", "prepared", "state", "updates")

    def __init__(self, state: bytes, updates: list[bytes]) -> None:
        self.state = state
        self.updates = updates
        self.live: _Live | None = None
        #: What the document has been given already, on top of the updates.
        self.prepared: bytes | None = None

    def open(self, client: int | None) -> _Live:
        """The document; for edits of that client, if one is given."""
        live, self.live = self.live, None
        if self.prepared is not None:
            live = self.prepared = None  # it was edited, and that came to nothing
        if live is None and not self.updates:
            live = _kept.take(self.state)
        if live is None or client not in (None, live.client):
            live = _Live(_NOBODY if client is None else client, self.state)
            for update in self.updates:
                live.take(update)
        self.live = live
        return live


class Document:
    """A text and how it came about. Immutable: an update gives a new one."""

    __slots__ = ("_branch", "_count", "_text")

    def __init__(self, branch: _Branch, count: int, text: str | None) -> None:
        self._branch = branch
        #: So many updates of the branch are in it.
        self._count = count
        self._text = text

    @classmethod
    def load(cls, state: bytes, text: str | None = None) -> Document:
        """The inverse of `dump`. The text is read from the state if it is not given."""
        return cls(_Branch(state, []), 0, text)

    def dump(self) -> tuple[bytes, str]:
        """As plain values, and the document is kept for whoever loads them. O(document)."""
        branch = self._settle()
        if not self._count:
            return branch.state, self.text
        text, live = self.text, branch.open(None)
        state = live.doc.get_update()
        branch.live = None
        self._branch, self._count = _Branch(state, []), 0
        _kept.put(state, live)
        return state, text

    @property
    def text(self) -> str:
        """What users see. O(document) the first time."""
        if self._text is None:
            live = self._settle().open(None)
            self._text = str(live.text)
            self._give_back()
        return self._text

    @property
    def is_blank(self) -> bool:
        """Is there no text?"""
        if self._text is not None:
            return not self._text
        return not len(self._settle().open(None).text)

    def edited(self, client: int, edit: Callable[[Doc[Any], Text], T]) -> tuple[T, bytes | None]:
        """Carry out edits of a client; what they change, if anything, is to be `applied` next."""
        branch = self._settle()
        live = branch.open(client)
        branch.live = None  # where an edit fails, it is no more where the branch is
        try:
            done = live.change(edit)
        except Problem:
            if live.update is None:
                branch.live = live
                self._give_back()
            raise
        branch.live, branch.prepared = live, live.update
        return done, live.update

    def applied(self, update: bytes) -> Document:
        """With one more update. Raises Refused if something is missing that it names."""
        branch = self._settle()
        if branch.prepared is not None and branch.prepared is update:
            branch.prepared = None
        else:
            live = branch.open(None)
            branch.live = None
            live.take(update)
            if not covers(live.state(), read_update(update).reach):
                raise Refused("it names characters that are not there")
            branch.live = live
        branch.updates.append(update)
        return Document(branch, len(branch.updates), None)

    def check(self) -> None:
        """Raises Refused if something is missing that its state names. O(document)."""
        branch = self._settle()
        if not covers(branch.open(None).state(), read_update(branch.state).reach):
            raise Refused("it names characters that are not there")

    def since(self, state: bytes) -> bytes:
        """An update with all that a document with this state vector lacks. O(document)."""
        update = self._settle().open(None).doc.get_update(state)
        self._give_back()
        return update

    def _settle(self) -> _Branch:
        """The branch, of which this document is the latest."""
        branch = self._branch
        if self._count < len(branch.updates):
            branch = self._branch = _Branch(branch.state, branch.updates[: self._count])
        return branch

    def _give_back(self) -> None:
        """What was only looked at can be looked at by the next one."""
        branch = self._branch
        if branch.live is not None and not branch.updates and branch.prepared is None:
            _kept.put(branch.state, branch.live)
            branch.live = None


def empty() -> Document:
    """The document that nobody has written to."""
    return Document.load(EMPTY, "")
