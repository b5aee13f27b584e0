"""Of which type a record or an object is, by its address, and what follows from that."""

from __future__ import annotations

from crdtdb import address
from crdtdb.datatype import DocumentType, OperationType, StateType
from crdtdb.record import Live
from crdtdb.types import CATALOGUE

__all__ = ["alive", "is_uncut", "log_of", "object_of", "shows_nothing", "type_of"]


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


def log_of(at: bytes) -> bytes:
    """The prefix of the op-based object whose log a record belongs to; empty if it does not."""
    if address.is_cut(at):
        return b""
    prefix, tail = address.split_object(at)
    is_log = isinstance(type_of(prefix), OperationType) and tail != address.EXPIRY
    return prefix if is_log else b""


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


def is_uncut(kind: StateType | OperationType | None) -> bool:
    """Is it without cuts: what removes such an object are operations of its own?"""
    return isinstance(kind, DocumentType) or (isinstance(kind, StateType) and kind.totals)
