"""What stands behind handles: whatever reads objects and carries operations out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from crdtdb.address import ObjectName
from crdtdb.answers import (
    LEFT_OUT,
    Enrolled,
    FieldRead,
    Given,
    Order,
    Plain,
    Read,
    Standing,
    Written,
)
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS

__all__ = ["Door"]


class Door(Protocol):
    """Where operations are carried out. Raises the problems of `crdtdb.errors`."""

    def read(
        self,
        name: ObjectName,
        *,
        limit: int = LIMITS.page_items_default,
        after: str | None = None,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
        order: Order = "member",
        prefix: Sequence[str] | None = None,
    ) -> Read[Any]:
        """Read an object: its value, or a page of its members with `from_` ≤ member < `to`."""

    def field(self, name: ObjectName, path: Sequence[str]) -> FieldRead:
        """One field of a map."""

    def contains(self, name: ObjectName, value: JsonValue) -> bool:
        """Is the value a member of the collection?"""

    def difference(self, name: ObjectName, since: bytes = b"") -> bytes:
        """What somebody lacks of a text who has got as far as a Yjs state vector: an update."""

    def enrol(self, name: ObjectName, since: bytes = b"") -> Enrolled:
        """The same, with a client id for an editor that is going to type here."""

    def standing(self, name: ObjectName, member: JsonValue) -> Standing | None:
        """Score and rank of a member of a sorted set; None if it is none."""

    def explain(
        self, name: ObjectName, member: Given = LEFT_OUT, field: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Why the object, one member, or one field of it, reads as it does."""

    def update(self, name: ObjectName, operations: list[Plain]) -> Written:
        """Carry out operations on one object, all or none."""
