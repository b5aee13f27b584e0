"""Which edits of a transaction are carried out together: those of one document.

A document, an object or a leaf of a map, takes what a transaction does to it as one operation, for
one document of the library behind it is opened for them all, and one operation travels. What came
in between may be about other objects: operations on different objects do not touch each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from crdtdb.address import ObjectName
from crdtdb.datatype import DocumentType, NestedType, Operation
from crdtdb.expiry import Expire, Persist
from crdtdb.transaction import CleanUp, Erase, Update
from crdtdb.types import CATALOGUE

__all__ = ["Document", "Turn", "document_edit", "in_turns"]

_DOCUMENTS: Final = {n: kind for n, kind in CATALOGUE.items() if isinstance(kind, DocumentType)}
_NESTED: Final = {n: kind for n, kind in CATALOGUE.items() if isinstance(kind, NestedType)}


class Document(NamedTuple):
    """An object that is a document, or a leaf that is one."""

    name: ObjectName
    #: What the tails of its records start with; empty: it is the object.
    stem: bytes
    kind: DocumentType


class Turn(NamedTuple):
    """Updates to carry out together, if they edit one document; else one after the other."""

    document: Document | None
    #: Which of the transaction's they are, and of those that edit: what is done to the document.
    numbers: list[int]
    edits: list[Operation]


def document_edit(update: Update | Erase | CleanUp) -> tuple[Document, Operation] | None:
    """The document that an update edits, and what it does to it; None if it edits none."""
    if not isinstance(update, Update):
        return None
    name, operation, _ = update
    kind = _DOCUMENTS.get(name.type)
    if kind is not None:
        is_edit = not isinstance(operation, Expire | Persist)
        return (Document(name, b"", kind), operation) if is_edit else None
    nested = _NESTED.get(name.type)
    edit = None if nested is None else nested.edit_in(operation)
    return None if edit is None else (Document(name, edit.stem, edit.kind), edit.operation)


def in_turns(updates: Sequence[Update | Erase | CleanUp]) -> list[Turn]:
    """The updates in an order that comes to the same, edits of one document together."""
    turns: list[Turn] = []
    latest: dict[ObjectName, Turn] = {}
    for number, update in enumerate(updates):
        if not isinstance(update, Update):  # it may be about any object
            latest.clear()
            turns.append(Turn(None, [number], []))
            continue
        found = document_edit(update)
        document, edits = (None, []) if found is None else (found[0], [found[1]])
        turn = latest.get(update.name)
        if turn is not None and document is not None and turn.document == document:
            turn.numbers.append(number)
            turn.edits.extend(edits)
        else:
            turn = latest[update.name] = Turn(document, [number], edits)
            turns.append(turn)
    return turns
