"""What the doors answer with: values, the same at every door."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, Literal, Self, TypeAlias, TypeVar

from crdtdb.address import ObjectName
from crdtdb.jsonvalue import JsonValue

__all__ = [
    "LEFT_OUT",
    "WRONG_LINES_TOLD",
    "Conflict",
    "Enrolled",
    "Event",
    "FieldRead",
    "Given",
    "Held",
    "Imported",
    "LeftOut",
    "Lost",
    "Order",
    "Plain",
    "Read",
    "Rights",
    "Standing",
    "Written",
    "WrongLine",
]

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
#: How the members of a collection are read; all but the first only where they have scores.
Order: TypeAlias = Literal["member", "score", "rank"]


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
    #: Until when it is there, ms since 1970; None: for ever.
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FieldRead:
    """What a field of a map holds."""

    field: tuple[str, ...]
    #: The type that is shown, `map` if there are fields below it; None: there is nothing.
    type: str | None
    value: JsonValue
    #: What it holds of other types, by their names.
    others: Mapping[str, JsonValue]
    #: The read context, as of a `Read`.
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a Yjs editor gets that takes part in a text at one replica."""

    #: The client id to type under: this replica, and no other, takes in what is new under it.
    client: int
    #: What the editor lacks of the text.
    update: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a member with a score stands."""

    score: int | float
    #: How many members come before it, by score and among equal ones by member.
    rank: int


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
    #: The value now, if that was asked for and the object reads as one value; a member's score.
    value: Given = LEFT_OUT
    #: The field that changed, of a map; `member` is then one of that field's collection.
    field: tuple[str, ...] | None = None


#: Wrong lines of an import that are told of one by one; the others are only counted.
WRONG_LINES_TOLD: Final = 100


@dataclass(frozen=True, slots=True)
class WrongLine:
    """A line of an import that was not written, and why."""

    line: int
    #: The slug of the problem.
    code: str
    detail: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What has become of the lines of an import, or of those so far."""

    lines: int = 0
    #: Lines written, by type.
    written: Mapping[str, int] = field(default_factory=dict)
    #: Lines that an earlier import under the same key had written.
    repeated: int = 0
    failed: int = 0
    #: Of the first that failed.
    errors: tuple[WrongLine, ...] = ()

    def plus(self, more: Imported) -> Imported:
        """With the lines that came after these."""
        written = Counter(self.written)
        written.update(more.written)
        return Imported(
            self.lines + more.lines,
            dict(sorted(written.items())),
            self.repeated + more.repeated,
            self.failed + more.failed,
            (self.errors + more.errors)[:WRONG_LINES_TOLD],
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What one replica may still do to a bounded counter without asking anybody."""

    #: Its name, or its incarnation where no name is known (any more).
    replica: str
    incarnation: str
    decrement: int
    #: None: nothing limits increments, or nothing that is agreed on.
    increment: int | None


@dataclass(frozen=True, slots=True)
class Rights:
    """The bounds of a bounded counter, and who holds which rights, as far as this replica knows."""

    min: int
    max: int | None
    #: Was it created several times at once, so that increments are refused until one is chosen?
    conflicting: bool
    held: tuple[Held, ...]

    @classmethod
    def of(cls, explanation: Mapping[str, Any]) -> Self:
        """What an explanation says of them."""
        if not explanation["records"]:
            return cls(0, None, False, ())
        (record,) = explanation["records"]
        names = explanation["replicas"]
        held = (
            Held(names.get(incarnation) or incarnation, incarnation, **counts)
            for incarnation, counts in record["rights"].items()
        )
        return cls(record["min"], record["max"], record["conflicting"], tuple(held))


@dataclass(frozen=True, slots=True)
class Lost:
    """A value that was written, and lost to a concurrent one."""

    value: JsonValue
    #: The replica that wrote it: its name, or its incarnation where no name is known.
    replica: str
    #: When it was written, by that replica's clock.
    at_ms: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Values of an object that lost, as the replica that answers saw it happen."""

    name: ObjectName
    #: When that was, by this replica's clock.
    at_ms: int
    #: The value that they lost to.
    kept: JsonValue
    lost: tuple[Lost, ...]
    #: Of a map: the field where they were.
    field: tuple[str, ...] | None = None
