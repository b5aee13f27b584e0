"""What the doors answer with: values, the same at every door."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeAlias, TypeVar

from crdtdb.address import ObjectName
from crdtdb.jsonvalue import JsonValue

__all__ = ["LEFT_OUT", "Event", "Given", "LeftOut", "Plain", "Read", "Written"]

V = TypeVar("V")

#: An operation as callers type it: {"op": "increment", "by": 5}.
Plain: TypeAlias = dict[str, Any]


class LeftOut(Enum):
    """What stands for an argument that was not given, where null is a value like any other."""

    LEFT_OUT = "left out"

    def __repr__(self) -> str:
        return "…"

    __str__ = __repr__


LEFT_OUT: Final = LeftOut.LEFT_OUT
#: A JSON value that may be left out.
Given: TypeAlias = JsonValue | LeftOut


@dataclass(frozen=True, slots=True)
class Read(Generic[V]):
    """What a read showed."""

    value: V
    exists: bool
    #: The read context: give it back to remove or replace only what this read showed.
    seen: str | None
    #: The replica that answered.
    replica: str
    #: Members in all, of a collection.
    size: int | None = None
    #: Where the next page begins, if there may be more.
    next: str | None = None
    #: Other types under which the key exists, when it does not exist under this one.
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did."""

    #: Did it change what users see (at this replica)?
    changed: bool
    #: The value afterwards, of a type that reads as one value.
    value: JsonValue = None
    #: The size afterwards, of a collection.
    size: int | None = None
    #: How many replicas (or regions) hold it on disk, where a number of them was asked for. If
    #: they are fewer than that, the write stays accepted all the same.
    acked: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One record that changed, in its latest state."""

    name: ObjectName
    #: Is nothing left to see of it?
    deleted: bool
    #: Where to go on (`since`), at any replica, to get what comes after this event.
    cursor: str
    #: The member that changed, of a collection; left out: the object as a whole.
    member: Given = LEFT_OUT
    #: The value now, if that was asked for and the object reads as one value.
    value: Given = LEFT_OUT
