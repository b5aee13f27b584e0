"""Of which type a record or an object is, by its address, and what follows from that."""

from __future__ import annotations

from typing import Final, NamedTuple

from crdtdb import address
from crdtdb.causal import VersionVector
from crdtdb.cuts import is_object_prefix
from crdtdb.datatype import DocumentType, OperationType, StateType
from crdtdb.guarded import found_then, has_beside_cut, totals_of
from crdtdb.record import Live, visible
from crdtdb.types import CATALOGUE

__all__ = [
    "Log",
    "alive",
    "in_force",
    "is_uncut",
    "log_at",
    "log_in",
    "log_of",
    "mended_with",
    "object_of",
    "shows_nothing",
    "type_of",
]

_LOGGED: Final = (address.BASE, address.OPERATION)
#: An operation's tail is so long.
_OPERATION_BYTES: Final = 17


class Log(NamedTuple):
    """Operations that are folded together: those of an op-based object, or of such a leaf."""

    #: What the addresses of its records start with, and no others. Its cut is at this prefix.
    prefix: bytes
    #: The prefix of the object whose head counts it: the object itself, or the map.
    owner: bytes
    #: None: a type that only a newer version knows.
    kind: OperationType | None

    @property
    def is_leaf(self) -> bool:
        return len(self.owner) < len(self.prefix)

    @property
    def at(self) -> bytes:
        """The address that stands for all of it, before those of its records. None is there."""
        return self.prefix + address.OWN


def type_of(prefix: bytes) -> StateType | OperationType | None:
    """The type of the object with this prefix; None for a type that a newer version knows."""
    return CATALOGUE.get(prefix.split(b"\0", 2)[1].decode())


def object_of(at: bytes) -> bytes:
    """The prefix of the object that a record belongs to; empty for a cut, or for no address."""
    try:
        address.parse(at)
    except ValueError:
        return b""
    return b"" if address.is_cut(at) else address.split_object(at)[0]


def log_in(prefix: bytes, tail: bytes) -> Log | None:
    """The log that the record of an object at this tail belongs to, if it belongs to one."""
    first = tail[:1]
    if first in _LOGGED:
        return Log(prefix, prefix, _op_based(type_of(prefix)))
    if first != address.LEAF:
        return None
    # Most are of other leaves, and need not be taken apart.
    if not tail.endswith(address.BASE) and tail[-_OPERATION_BYTES:][:1] != address.OPERATION:
        return None
    leaf = address.split_leaf(tail)
    if leaf.tail[:1] not in _LOGGED:
        return None
    stem = tail[: len(tail) - len(leaf.tail)]
    return Log(prefix + stem, prefix, _op_based(CATALOGUE.get(leaf.type)))


def log_at(prefix: bytes) -> Log | None:
    """The log whose records' addresses start so; None if that is not what they have in common."""
    if prefix.count(b"\0") < 3:
        return None
    if is_object_prefix(prefix):
        kind = _op_based(type_of(prefix))
        return None if kind is None else Log(prefix, prefix, kind)
    owner, stem = address.split_object(prefix)
    if not stem.startswith(address.LEAF):
        return None
    leaf = address.split_leaf(stem)
    if leaf.tail:
        return None
    named = CATALOGUE.get(leaf.type)
    kind = _op_based(named)
    return Log(prefix, owner, kind) if named is kind else None


def log_of(at: bytes) -> bytes:
    """The prefix of the log that a record belongs to; empty if it belongs to none."""
    if address.is_cut(at):
        return b""
    log = log_in(*address.split_object(at))
    return log.prefix if log is not None and log.kind is not None else b""


def mended_with(at: bytes) -> bytes:
    """The prefix of all that has to be taken over together with a record; empty: it alone.

    That is a log, for operations are folded at different times; with its deadline if it is an
    object. A cut of a log goes with that.
    """
    if address.is_cut(at):
        return _log_cut_at(at)
    prefix = object_of(at)
    if prefix and _op_based(type_of(prefix)) is not None:
        return prefix
    return log_of(at) if prefix else b""


def _log_cut_at(at: bytes) -> bytes:
    try:
        address.parse(at)
        log = log_at(address.cut_prefix(at))
    except ValueError:
        return b""
    return log.prefix if log is not None and log.kind is not None else b""


def _op_based(kind: StateType | OperationType | None) -> OperationType | None:
    return kind if isinstance(kind, OperationType) else None


def shows_nothing(_: Live) -> bool:
    """Of a leaf whose type is not known here."""
    return False


def alive(kind: StateType | OperationType | None, tail: bytes, live: Live) -> bool:
    """Does a record show something to users? Of a map: not if its leaf's type is not known."""
    if not live or tail == address.EXPIRY:
        return False
    if not isinstance(kind, StateType):
        return True
    own = kind.at(tail)
    return own is not None and own.alive(live)


def in_force(
    kind: StateType | OperationType | None, tail: bytes, live: Live, cut: VersionVector | None
) -> Live:
    """What cuts leave of the live dots at the tail of an object, as their type is to see it."""
    left = visible(live, cut)
    return _counted_since(kind, tail, left, cut) if has_beside_cut(left) else left


def _counted_since(
    kind: StateType | OperationType | None, tail: bytes, left: Live, cut: VersionVector | None
) -> Live:
    own = kind.at(tail) if isinstance(kind, StateType) and tail != address.EXPIRY else None
    if own is None or not own.totals:
        return left
    return own.since(totals_of(left), found_then(left, cut))


def is_uncut(kind: StateType | OperationType | None) -> bool:
    """Is it removed for good by operations of its own, and not by cuts?

    Cuts that depend on a deadline apply to it all the same (`expiry`).
    """
    return isinstance(kind, DocumentType) or (isinstance(kind, StateType) and kind.totals)
