"""What a data type is: the contract every file in `crdtdb/types/` keeps.

Two families, one suite each (`tests/laws`):

- **State-based**: what an operation leaves behind is a payload in a record; records join
  (`record.py`) and the type reads a value from the live dots. A type never joins, never stores
  and never sees a dot that a cut covers.
- **Operation-based**: an operation is itself an immutable record, delivered once per replica in
  causal order; the type folds its effect into a materialised value.

A type is a stateless object named `TYPE` in a module named like the type. Its operations are
msgspec structs: they validate requests and describe themselves in the OpenAPI document.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from crdtdb import address
from crdtdb.causal import Dot, VersionVector
from crdtdb.errors import BadRequest, Field, InvalidOperation, shortened
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Payload

__all__ = [
    "NO_PAYLOAD",
    "Change",
    "CollectionType",
    "Cut",
    "DataType",
    "Delete",
    "DocumentType",
    "Edit",
    "Edited",
    "Logged",
    "NestedType",
    "Operation",
    "OperationType",
    "ReadContext",
    "Restored",
    "ScalarType",
    "ScoredType",
    "SequenceType",
    "Stamp",
    "StateType",
    "View",
    "below_a_leaf",
]


#: The field `seen` of what removes or replaces: the token of a read, to spare what it did not show.
ReadContext: TypeAlias = (
    Annotated[str, msgspec.Meta(extra_json_schema={"format": "read-context"})] | None
)


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    """One thing a user can ask of an object; subclasses give the fields and, as tag, the name."""

    #: What its JSON Schema says beyond what each field may be.
    rule: ClassVar[Mapping[str, Any]] = {}

    @property
    def repeatable(self) -> bool:
        """Is it harmless to carry it out once more, at another replica, if it may have been lost?

        It is when the repetition can overrule only what the operation wins over by its type's
        rule anyway (an add, against a remove), or when it removes what one read showed: that
        stays the same, however often and wherever.
        """
        return False

    def completed(self, read: Callable[[str, Any, str], Operation]) -> Operation:
        """With the operations that it holds read, too: `read` takes type, operation and place.

        Raises BadRequest, InvalidOperation or UnknownType.
        """
        return self

    def restoring(self) -> Operation:
        """The same as part of a value that is restored: nothing in there is held against it."""
        return self

    @property
    def wide(self) -> bool:
        """May carrying it out look at every record of the object? Then no event loop should."""
        return False


class Delete(Operation, tag="delete", frozen=True):
    """Remove the whole object, as far as it was observed. Every type but `bcounter` takes it."""

    seen: ReadContext = None

    @property
    def whole(self) -> bool:
        """Does it remove all there is? Some types take one that names a part."""
        return True

    @property
    def repeatable(self) -> bool:
        return self.seen is not None

    @property
    def wide(self) -> bool:
        return self.seen is not None  # what came since survives, and has to be counted


class Stamp(NamedTuple):
    """What the engine mints for one operation."""

    dot: Dot
    time: int


#: The operation leaves nothing in force: it only removes.
NO_PAYLOAD: Final = object()


class Change(NamedTuple):
    """One record changed by an operation: the dots it replaces and the payload it leaves."""

    tail: bytes
    replaces: Collection[Dot]
    payload: Payload = NO_PAYLOAD


class Cut(NamedTuple):
    """Everything in the object that the operation observed is dead. O(1), whatever the size."""


class Logged(NamedTuple):
    """One more operation of an op-based leaf: it changes nothing but that leaf's log.

    A cut: all that was observed of the leaf is dead. O(1), whatever the size.
    """

    #: What the tails of the leaf's records start with.
    stem: bytes
    payload: Payload | Cut


class Restored(NamedTuple):
    """One operation, as a caller would write it, of those that write an exported value again."""

    plain: dict[str, Any]
    #: Its read context; None: it has none.
    seen: VersionVector | None = None


class View(Protocol):
    """What a type may look at: the visible live dots of the object's records."""

    def live(self, tail: bytes) -> Live:
        """The visible live dots of one record of the object. One store get."""

    def stored(self, tail: bytes) -> Live:
        """All live dots there as they are stored, also what a cut leaves out.

        The same as `live`, if nothing is cut by what depends on a deadline.
        """

    def whole(self) -> View:
        """The same without the cuts that depend on a deadline: what is hidden may come back.

        What removes the whole object removes that, too.
        """

    def size(self) -> int:
        """The number of members that users see. One store get."""

    def members(self, stem: bytes = address.MEMBER) -> Iterator[tuple[bytes, Live]]:
        """Tail and visible live dots of each record with any whose tail starts with `stem`.
        O(records there): bound it by `size` first."""

    def observed(self, live: Live) -> Collection[Dot]:
        """Those dots that the operation may remove: all, or what its read context shows."""

    def replicas(self) -> Mapping[int, str]:
        """The names of the members, and of this replica, by incarnation. O(members)."""

    def folded(self, stem: bytes, kind: OperationType) -> Any:
        """The materialised value of an op-based leaf, the tails of whose records start so.

        None: nothing of it is in force. One store get; of a large value that is not kept, all.
        """

    @property
    def has_context(self) -> bool:
        """Has the operation a read context?"""


class DataType:
    """What both families have in common."""

    name: ClassVar[str]
    #: One sentence for `GET /v1`, the documentation and the command line.
    summary: ClassVar[str]
    operations: ClassVar[tuple[type[Operation], ...]]
    #: Does a read show members in pages (and a size), or one value?
    collection: ClassVar[bool] = False
    #: Does a write answer how much there is, rather than the value?
    sized: ClassVar[bool] = False
    #: Can less than everything be removed, so that reads hand out a read context?
    removable: ClassVar[bool] = True
    #: Is there an operation `delete`?
    deletable: ClassVar[bool] = True
    #: The msgspec type of a payload.
    payload: ClassVar[Any]

    @abstractmethod
    def places(self, tail: bytes) -> bool:
        """Is there a record of such an object at this tail?"""

    def check(self, dot: Dot, payload: Payload) -> None:
        """Raises ValueError unless this type could have written that payload with that dot.

        What a peer sends is checked so before it is merged.
        """
        if payload is None and self.payload is None:
            return
        # Bytes are bytes: text that could be read as base64 is not what any replica writes.
        msgspec.convert(payload, type=self.payload, strict=True, builtin_types=(bytes,))

    def check_each(self, operations: Sequence[tuple[int, int, Payload]]) -> None:
        """The same of many operations: incarnation, counter and payload."""
        if self.payload is None and all(payload is None for _, _, payload in operations):
            return
        for incarnation, counter, payload in operations:
            self.check((incarnation, counter), payload)

    def portions(self, value: JsonValue) -> Iterator[JsonValue]:
        """What an export holds, as `restore` takes it: whole, unless that could be too much."""
        yield value

    def exported_items(self, items: list[JsonValue]) -> list[JsonValue]:
        """What an export holds of the items of a page, of a type that reads in pages."""
        return items

    @abstractmethod
    def restore(self, value: JsonValue) -> Iterator[Restored]:
        """The operations that write an exported value; they add to what is there already.

        Raises BadRequest for what is not such a value.
        """

    def describe(self, payload: Payload) -> dict[str, Any]:
        """What a payload says, for people who ask why an object reads as it does."""
        return {}


class StateType(DataType):
    """The state-based family."""

    #: Do payloads hold running totals? A cut cannot remove exactly what it saw of those, so what
    #: removes such objects is `delete`. A cut that depends on a deadline leaves an inventory.
    totals: ClassVar[bool] = False
    #: Is one of several concurrent values read, and the others are lost to users? The journal of
    #: conflicts then keeps them: exactly one live dot is `decisive`, `describe` tells of each
    #: payload its `value` and `at_ms`, when it was written, and an operation replaces all it finds.
    has_losers: ClassVar[bool] = False

    @abstractmethod
    def mutate(
        self, operation: Operation, view: View, stamp: Stamp
    ) -> Iterator[Change | Cut | Logged]:
        """What the operation changes. Raises InvalidOperation or BadRequest, before any change.

        Only a `NestedType` has leaves to log something for.
        """

    def delete(self, view: View, stamp: Stamp) -> Iterator[Change | Cut | Logged]:
        """What deleting the object changes."""
        yield Cut()

    def since(self, live: Live, former: Live) -> Live:
        """The live dots less what their running totals had come to with earlier dots, `former`.

        Only of types that have `totals`.
        """
        return live

    def counting(self, live: Live) -> Live:
        """Those live dots that have running totals, which may go on under later dots.

        Only of types that have `totals`.
        """
        return {}

    def taken_out(self, live: Live, former: Live, dot: Dot) -> Payload:
        """The payload, with this dot, that takes out for good what `since` leaves out.

        NO_PAYLOAD if that is nothing. Only of types that have `totals`.
        """
        return NO_PAYLOAD

    def at(self, tail: bytes) -> StateType | None:
        """The type of the record at a tail, for its own records; None if that is not known."""
        return self

    def alive(self, live: Live) -> bool:
        """Do these live dots show something to users?"""
        return bool(live)

    def shows(self, live: Live) -> Any:
        """Of live dots that show something: what differs exactly when what users read differs."""
        return True

    def decisive(self, live: Live) -> Collection[Dot]:
        """The live dots that make what users read; the others are in force, but lose."""
        return live.keys()

    def idle(self, live: Live) -> Collection[Dot]:
        """The live dots that may be taken out once every member has seen them all.

        They show nothing to users, and were kept for operations that had not seen them: marks of
        a record that is dead to users, values that lost. Nobody makes such operations any more.
        An operation that saw them may be under way, so it must not lean on any of these dots.
        """
        if not self.alive(live):
            return live.keys()
        if self.has_losers and len(live) > 1:
            return live.keys() - self.decisive(live)
        return ()


class ScalarType(StateType):
    """A state-based type that is one record and one value."""

    #: Do replicas hold parts of it that they can give to each other?
    shareable: ClassVar[bool] = False

    def places(self, tail: bytes) -> bool:
        return tail == address.OWN

    def shows(self, live: Live) -> Any:
        return self.value(live)

    def check_together(self, live: Live) -> None:
        """Raises ValueError for what no honest replicas' operations, all together, can lead to."""

    def share(self, live: Live, own: int, members: Collection[int]) -> Iterator[Operation]:
        """What the replica `own` should give to other members now, so that they can go on.

        `members` are those that are there, itself among them. Asked again after each change, so
        what it gives must settle. Only of types that are `shareable`.
        """
        return iter(())

    def concerns(self, live: Live) -> Collection[int]:
        """The incarnations that `overview` tells of, whether they wrote or not."""
        return ()

    def overview(self, live: Live) -> dict[str, Any]:
        """What all that is in force says together, for people who ask why it reads as it does."""
        return {}

    def exported(self, live: Live) -> JsonValue:
        """What an export holds, and `restore` takes: what users read, if that is enough."""
        return self.value(live)

    @abstractmethod
    def value(self, live: Live) -> JsonValue:
        """What users read. Deterministic in the live dots; `value({})` is the bottom."""


class CollectionType(StateType):
    """A state-based type whose members are records of their own, at MEMBER tails."""

    collection = True
    sized = True
    #: Is a member there exactly when something of it is in force, and is it all that a page shows?
    #: Then most rows need not be decoded to read it.
    plain: ClassVar[bool] = False

    def places(self, tail: bytes) -> bool:
        return tail.startswith(address.MEMBER)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        """The members that a page showed are added."""
        if not isinstance(value, list):
            raise BadRequest("`value` is a list of members", Field("value", "not a list"))
        for start in range(0, len(value), LIMITS.operation_values):
            yield Restored({"op": "add", "values": value[start : start + LIMITS.operation_values]})

    def entries(self, tails: Sequence[bytes], lives: Sequence[Live]) -> list[JsonValue]:
        """What a page shows of members that are alive."""
        return address.member_values(tails, 0)


class ScoredType(CollectionType):
    """A collection whose members have scores, by which it can be read in order, too.

    Scores can be counted up, so its payloads hold running totals; nothing else than a change of a
    member's record changes its score.
    """

    totals = True

    @abstractmethod
    def score(self, live: Live) -> int | float:
        """The score of a member that is alive."""

    def shows(self, live: Live) -> Any:
        return self.score(live)

    def entries(self, tails: Sequence[bytes], lives: Sequence[Live]) -> list[JsonValue]:
        members = address.member_values(tails, 0)
        return [
            {"member": member, "score": self.score(live)}
            for member, live in zip(members, lives, strict=True)
        ]


class NestedType(StateType):
    """A state-based type whose records belong to other types, at LEAF tails; `at` tells which.

    Some of these have running totals, so no cut applies to it. Those of op-based leaves are logs
    (`kinds.Log`), of which `at` does not tell.
    """

    collection = True
    sized = True
    totals = True

    def places(self, tail: bytes) -> bool:
        return tail.startswith(address.LEAF)

    @abstractmethod
    def holds(self, kind: DataType) -> bool:
        """Can leaves be of this type?"""

    @abstractmethod
    def edit_in(self, operation: Operation) -> Edit | None:
        """What an operation does to the one leaf it is about, if that is a document."""

    @abstractmethod
    def check_edits(self, operations: Sequence[Operation], view: View) -> None:
        """Of such operations, all on one leaf: may they be? Raises InvalidOperation."""


class OperationType(DataType):
    """The operation-based family. `folded` is the materialised value, in memory as the type likes.

    `apply` is called exactly once per operation and replica, in causal order, and must give the
    same result for concurrent operations in either order. It changes nothing: a materialised value
    is never altered, for a transaction that fails goes back to the one before.
    """

    #: The msgspec type of a materialised value as it is stored.
    folded: ClassVar[Any]
    #: May values be large, and can operations be carried out again on what `load` gives? Then a
    #: commit stores its operations only (`materialised`). Values are kept, and shared by threads.
    stepwise: ClassVar[bool] = False
    #: Is there something to let go (`settled`) once all operations so far are stable?
    settles: ClassVar[bool] = False

    def places(self, tail: bytes) -> bool:
        return tail == address.BASE or tail.startswith(address.OPERATION)

    def prepare(self, operation: Operation, folded: Any) -> Payload | Cut:
        """The payload to replicate, decided at the origin. Raises InvalidOperation.

        Every type has it but a `DocumentType`.
        """
        raise NotImplementedError

    def decided(self, operation: Operation, folded: Any, writer: int) -> Payload | Cut:
        """The payload of any operation of an incarnation, a `Delete` too; NO_PAYLOAD: none.

        `apply` comes next, if at all. Raises a CallerError.
        """
        return Cut() if type(operation) is Delete else self.prepare(operation, folded)

    @abstractmethod
    def empty(self) -> Any:
        """The materialised value of no operation."""

    @abstractmethod
    def apply(self, folded: Any, dot: Dot, payload: Payload) -> Any:
        """The materialised value after one more operation."""

    def replayed(self, folded: Any, steps: Iterable[tuple[Dot, Payload]]) -> Any:
        """The materialised value after many more operations, of one that was just loaded."""
        for dot, payload in steps:
            folded = self.apply(folded, dot, payload)
        return folded

    def settled(self, folded: Any, later: Iterable[Payload]) -> Any:
        """The same to users, without what only operations in `folded` could refer to.

        All operations in it are stable; `later` are the others that this replica knows. Only of
        types that say `settles`.
        """
        return folded

    def is_bare(self, folded: Any) -> bool:
        """Is a settled value like that of no operation?"""
        return False

    def size(self, folded: Any) -> int:
        """How many elements users see; one value is one. The object exists while there is any."""
        return 1

    def shown(self, folded: Any) -> Any:
        """Plain values that differ exactly when what users read differs: what digests are over."""
        return self.dump(folded)

    def dump(self, folded: Any) -> Any:
        """As plain values for the codec: equal ones, whatever order of operations led there
        (but of a `DocumentType`)."""
        return folded

    def load(self, stored: Any) -> Any:
        """The inverse of `dump`."""
        return stored

    def check_base(self, stored: Any, context: VersionVector) -> None:
        """Raises ValueError unless a peer could have folded these operations to this value."""
        msgspec.convert(stored, type=self.folded, strict=True, builtin_types=(bytes,))

    @abstractmethod
    def value(self, folded: Any) -> JsonValue:
        """What users read. `value(empty())` is the bottom."""


class SequenceType(OperationType):
    """An operation-based type that reads as elements at positions, in pages."""

    collection = True
    sized = True
    removable = False
    settles = True

    @abstractmethod
    def page(
        self,
        folded: Any,
        limit: int,
        after: bytes | None,
        start: int | None,
        end: int | None,
        *,
        reverse: bool,
    ) -> tuple[list[JsonValue], bytes | None]:
        """The elements at `start` ≤ position < `end`, and where the page ends if there are more.

        `after` is where the page before ended: an element, so what comes in or goes meanwhile
        moves nothing. Raises CursorExpired when that cannot be told any more.
        """

    @abstractmethod
    def contains(self, folded: Any, value: JsonValue) -> bool:
        """Is some element this normalised value?"""


class Edit(NamedTuple):
    """What is done to a leaf that is a document."""

    #: What the tails of the leaf's records start with.
    stem: bytes
    kind: DocumentType
    operation: Operation


class Edited(NamedTuple):
    """What edits come to."""

    #: What travels; None: they changed nothing.
    payload: Payload
    #: Of each edit: did it change anything, and how much there is afterwards.
    outcomes: list[tuple[bool, int]]


class DocumentType(OperationType):
    """An op-based type that reads as one value, in which every operation edits a part.

    What a transaction carries out on one document (`editing`) travels as one operation, with the
    dot of the last: who gets it gets the whole transaction. No cut applies to it, for edits that
    are still to come name what stood beside them: whoever deletes it edits it. (A cut that depends
    on a deadline comes with an edit that counts as long as the cut does.) Digests are over what is
    shown, and equal values need not be stored as equal bytes.
    """

    removable = False
    sized = True

    @abstractmethod
    def edit(self, folded: Any, operations: Sequence[Operation], writer: int) -> Edited:
        """Carry out edits, decided at the origin, an incarnation; `apply` comes next, if at all.

        A `Delete` takes out all there is. Raises a CallerError.
        """

    def decided(self, operation: Operation, folded: Any, writer: int) -> Payload | Cut:
        payload = self.edit(folded, [operation], writer).payload
        return NO_PAYLOAD if payload is None else payload

    @abstractmethod
    def check_removal(self, payload: Payload) -> None:
        """Raises ValueError unless the edit only takes out."""

    @abstractmethod
    def difference(self, folded: Any, since: bytes) -> bytes:
        """What somebody lacks who has got as far as `since` says (empty: nowhere).

        In the format of the library that this type is made with. Raises BadRequest.
        """

    @abstractmethod
    def editor(self, writer: int, number: int) -> int:
        """The name, for that library, of an editor whose edits this incarnation is to take in.

        A different one for each number, up to some thousands. Nobody else takes in what is new
        under it, for no replica could tell which of two edits under one name is meant.
        """


def below_a_leaf(path: Sequence[str], type_name: str) -> InvalidOperation:
    """The problem of a field below another, at `path`, that holds a leaf."""
    shown = shortened("/".join(path))
    return InvalidOperation(
        f"the field {shown!r} is a {type_name} here, which has no fields of its own; name that "
        "field, or remove it before there is something below it",
        Field("field", f"goes on below a {type_name}", len(path)),
    )
