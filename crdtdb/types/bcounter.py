"""`bcounter`: a number that never leaves its bounds, at any replica, in any partition.

What is between the value and its bounds is divided among the replicas as rights (`_rights.py`), so
that each of them can use its own without asking. It starts at `min`. `max` holds when the counter
was created once; several creations at a time are found when they meet, and then nobody increments
until an operator, who has seen them, creates it again with the bounds to go on with. What was added
meanwhile, unseen by that choice, still counts.

It cannot be deleted and does not expire: a row that goes takes the rights with it that others have
been given, and have used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from crdtdb.address import OWN
from crdtdb.causal import Dot, format_incarnation
from crdtdb.datatype import Change, Cut, Operation, Restored, ScalarType, Stamp, View
from crdtdb.errors import (
    BadRequest,
    ConflictingBounds,
    Field,
    InvalidOperation,
    NoRights,
    OutOfBounds,
    shortened,
)
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Payload
from crdtdb.types import _rights, _steps
from crdtdb.types._rights import Bound, Creation, Matrix, Row, Upper

__all__ = ["TYPE"]

_Step = Annotated[int, Meta(ge=1, le=LIMITS.step)]
#: So many holders an error names; `explain` shows all.
_HOLDERS_TOLD: Final = 10
#: As much as one line of an import can count: the creation is an operation of it, too.
_MOST_ABOVE: Final = LIMITS.step * (LIMITS.transaction_operations - 1)


class Create(Operation, tag="create", frozen=True):
    """Bring it into being, at `min`. Once; again to choose between bounds that conflict."""

    min: Bound = 0
    max: Bound | None = None


class Increment(Operation, tag="increment", frozen=True):
    """Add `by`, at most up to `max`: uses rights to increment, makes rights to decrement."""

    by: _Step = 1


class Decrement(Operation, tag="decrement", frozen=True):
    """Take away `by`, at most down to `min`: uses rights to decrement."""

    by: _Step = 1


class Transfer(Operation, tag="transfer", frozen=True):
    """Give rights that this replica holds to another one, named like a member or an incarnation."""

    to: str
    amount: _Step
    rights: Literal["decrement", "increment"] = "decrement"


class _Exported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an export holds."""

    min: Bound
    max: Bound | None
    value: int


class BoundedCounter(ScalarType):
    name = "bcounter"
    summary = "A number that never leaves its bounds; each replica uses rights of its own."
    operations = (Create, Increment, Decrement, Transfer)
    payload = _rights.PayloadType
    totals = True
    removable = False
    deletable = False
    shareable = True

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        live = view.live(OWN)
        writing = _Writing(view, Matrix(live), stamp)
        row = writing.row_after(operation)
        if row is not None:
            own = [dot for dot in live if dot[0] == stamp.dot[0]]
            yield Change(OWN, own, row.write())

    def delete(self, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        """Refused: by an erase of all below a prefix, too."""
        raise InvalidOperation(
            "a bcounter cannot be deleted, for rights to it may be in use elsewhere; nor can a "
            "bucket, type or prefix with one in it. Leave it, and count under another key",
            Field("type", "cannot be deleted"),
        )

    def share(self, live: Live, own: int, members: Collection[int]) -> Iterator[Operation]:
        """Rights, to members that have used up most of their share."""
        matrix = Matrix(live)
        held = {i: matrix.to_decrement(i) for i in members}
        for to, amount in _rights.shifts(held, own):
            yield Transfer(format_incarnation(to), amount)
        bounding = matrix.bounding
        if bounding is not None:
            held = {i: matrix.to_increment(i, bounding) for i in members}
            for to, amount in _rights.shifts(held, own):
                yield Transfer(format_incarnation(to), amount, "increment")

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        _rights.check(dot, payload)

    def check_together(self, live: Live) -> None:
        Matrix(live).check(live)

    def portions(self, value: JsonValue) -> Iterator[JsonValue]:
        bounds = msgspec.convert(value, type=_Exported)
        for above in _steps.portions(bounds.value - bounds.min, _MOST_ABOVE):
            yield msgspec.structs.asdict(bounds) | {"value": bounds.min + above}

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        """It is created with these bounds, where it is not yet, and as much added as it was above
        `min`."""
        try:
            bounds = msgspec.convert(value, type=_Exported, strict=True)
        except msgspec.ValidationError as error:
            raise BadRequest(
                "`value` has the bounds `min` and `max`, and a `value`; all whole numbers, but "
                "`max` may be null",
                Field("value", shortened(str(error))),
            ) from error
        above = bounds.value - bounds.min
        if not 0 <= above <= _MOST_ABOVE:
            raise BadRequest(
                f"`value` is at least `min` and at most {_MOST_ABOVE} above it",
                Field("value", "no such value", bounds.min),
            )
        yield Restored({"op": "create", "min": bounds.min, "max": bounds.max})
        yield from _steps.steps(above)

    def describe(self, payload: Payload) -> dict[str, Any]:
        return _rights.describe(payload)

    def concerns(self, live: Live) -> Collection[int]:
        return Matrix(live).holders

    def overview(self, live: Live) -> dict[str, Any]:
        """The bounds, and who holds which rights."""
        matrix = Matrix(live)
        bounding = matrix.bounding
        return {
            "min": matrix.least,
            "max": None if bounding is None else bounding.max,
            "conflicting": matrix.is_conflicting,
            "rights": {
                format_incarnation(incarnation): {
                    "decrement": matrix.to_decrement(incarnation),
                    "increment": (
                        None if bounding is None else matrix.to_increment(incarnation, bounding)
                    ),
                }
                for incarnation in matrix.holders
            },
        }

    def exported(self, live: Live) -> JsonValue:
        matrix = Matrix(live)
        value = matrix.value
        maxima = [creation.max for creation in matrix.standing if creation.max is not None]
        most = max(min(maxima), value) if maxima else None
        return msgspec.structs.asdict(_Exported(matrix.least, most, value))

    def value(self, live: Live) -> int:
        return Matrix(live).value


class _Writing:
    """One operation of one replica."""

    def __init__(self, view: View, matrix: Matrix, stamp: Stamp) -> None:
        self._view = view
        self._matrix = matrix
        self._dot = stamp.dot
        self._own = matrix.rows.get(stamp.dot[0], Row())

    def row_after(self, operation: Operation) -> Row | None:
        """This replica's row after it; None: nothing changes. Raises what forbids it."""
        if isinstance(operation, Create):
            return self._created(operation.min, operation.max)
        if not self._matrix.is_created:
            raise InvalidOperation(
                "this replica knows of no such counter; create it, once, with its bounds, or wait "
                "until its creation has arrived",
                Field("op", "not created"),
            )
        match operation:
            case Increment(by):
                return self._incremented(by)
            case Decrement(by):
                return self._decremented(by)
            case _:
                assert isinstance(operation, Transfer)
                return self._transferred(operation)

    # -- bounds ---------------------------------------------------------------------------------

    def _created(self, least: int, most: int | None) -> Row | None:
        matrix = self._matrix
        if most is not None and most < least:
            raise BadRequest(
                f"`max` is {most}, below `min`, {least}", Field("max", "below `min`", least)
            )
        if not matrix.is_created:
            room = 0 if most is None else most - least
            return self._own._replace(creation=Creation(self._dot, least, most, room))
        if not matrix.is_conflicting:
            self._check_same(least, most)
            return None
        if least != matrix.least:
            raise OutOfBounds(
                f"the lower bound is {matrix.least}, the greatest that was asked for, and holds "
                f"always; choose it with `min` {matrix.least}",
                Field("min", "not the lower bound", matrix.least),
            )
        value = matrix.value
        if most is not None and most < value:
            raise OutOfBounds(
                f"the value is {value}; choose a `max` from there on, or decrement first",
                Field("max", "below the value", value),
            )
        room = 0 if most is None else most - value
        chosen = Creation(self._dot, least, most, room, matrix.creations)
        return self._own._replace(creation=chosen)

    def _check_same(self, least: int, most: int | None) -> None:
        matrix = self._matrix
        bounding = matrix.bounding
        standing = (matrix.least, None if bounding is None else bounding.max)
        if (least, most) != standing:
            raise ConflictingBounds(
                f"it has been created with `min` {standing[0]} and `max` {standing[1]}; its bounds "
                "stay as they are",
                Field("min" if least != standing[0] else "max", "created with others"),
            )

    def _check_agreed(self) -> None:
        if self._matrix.is_conflicting:
            bounds = "; ".join(
                f"{self._named(one.dot[0])}: {one.min} to {one.max}"
                for one in self._matrix.standing[:_HOLDERS_TOLD]
            )
            raise ConflictingBounds(
                f"it was created several times at once ({bounds}), so no `max` can be kept; "
                f"`create` it again with `min` {self._matrix.least} and the `max` to go on with",
                Field("op", "conflicting bounds"),
            )

    # -- rights ---------------------------------------------------------------------------------

    def _incremented(self, by: int) -> Row:
        self._check_agreed()
        own, bounding, value = self._own, self._matrix.bounding, self._matrix.value
        if bounding is None or bounding.max is None:
            return own._replace(added=own.added + by)
        if value + by > bounding.max:
            raise OutOfBounds(
                f"the value is {value} and at most {bounding.max}",
                Field("by", "beyond `max`", max(0, bounding.max - value)),
            )
        self._check_held("by", by, "increment")
        upper = self._upper(bounding)
        upper = upper._replace(added=upper.added + by)
        return own._replace(added=own.added + by, upper=upper)

    def _decremented(self, by: int) -> Row:
        own, matrix = self._own, self._matrix
        value, least = matrix.value, matrix.least
        if value - by < least:
            raise OutOfBounds(
                f"the value is {value} and at least {least}",
                Field("by", "beyond `min`", value - least),
            )
        self._check_held("by", by, "decrement")
        own = own._replace(taken=own.taken + by)
        if matrix.bounding is None:
            return own
        upper = self._upper(matrix.bounding)
        return own._replace(upper=upper._replace(taken=upper.taken + by))

    def _transferred(self, transfer: Transfer) -> Row:
        own, to, amount = self._own, self._receiver(transfer.to), transfer.amount
        if transfer.rights == "decrement":
            self._check_held("amount", amount, "decrement")
            return own._replace(given={**own.given, to: own.given.get(to, 0) + amount})
        self._check_agreed()
        if self._matrix.bounding is None:
            raise InvalidOperation(
                "it has no `max`, so incrementing needs no rights",
                Field("rights", "not limited"),
            )
        self._check_held("amount", amount, "increment")
        upper = self._upper(self._matrix.bounding)
        given = {**upper.given, to: upper.given.get(to, 0) + amount}
        return own._replace(upper=upper._replace(given=given))

    def _upper(self, bounding: Creation) -> Upper:
        """This row's part under the creation that holds: a new one, if it has none."""
        upper = self._own.upper
        is_under = upper is not None and upper.creation == bounding.dot
        return upper if upper is not None and is_under else Upper(bounding.dot)

    def _held(self, incarnation: int, rights: str) -> int:
        if rights == "decrement":
            return self._matrix.to_decrement(incarnation)
        assert self._matrix.bounding is not None
        return self._matrix.to_increment(incarnation, self._matrix.bounding)

    def _check_held(self, field: str, amount: int, rights: str) -> None:
        held = self._held(self._dot[0], rights)
        if amount <= held:
            return
        others = {i: self._held(i, rights) for i in self._matrix.holders if i != self._dot[0]}
        most = sorted(((count, i) for i, count in others.items() if count), reverse=True)
        told = [(self._named(i), count) for count, i in most[:_HOLDERS_TOLD]]
        elsewhere = ", ".join(f"{name} holds {count}" for name, count in told) or "nobody else any"
        raise NoRights(
            f"this replica holds {held} of the rights to {rights} (as far as it knows, "
            f"{elsewhere}); transfer some here, or ask where they are",
            Field(field, "more than is held here", held),
            *(Field(field, f"held by {name}", count) for name, count in told),
        )

    # -- replicas -------------------------------------------------------------------------------

    def _named(self, incarnation: int) -> str:
        return self._view.replicas().get(incarnation) or format_incarnation(incarnation)

    def _receiver(self, to: str) -> int:
        """The incarnation that a transfer goes to: that of a member, or one known here."""
        members = self._view.replicas()
        found = [incarnation for incarnation, name in members.items() if name == to]
        if not found:
            known = {*members, *self._matrix.holders}
            found = [incarnation for incarnation in known if format_incarnation(incarnation) == to]
        if len(found) != 1:
            many = ", ".join(format_incarnation(incarnation) for incarnation in sorted(found))
            raise InvalidOperation(
                f"several members are named {shortened(to)!r}; give one as {many}"
                if found
                else f"no member is named {shortened(to)!r}; the cluster's members are listed at "
                "/v1/cluster",
                Field("to", "not one member"),
            )
        if found[0] == self._dot[0]:
            raise InvalidOperation(
                "this replica has its rights already; name another one", Field("to", "itself")
            )
        return found[0]


TYPE = BoundedCounter()
