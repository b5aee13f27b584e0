"""Lines of JSON, `{"bucket","type","key","value"}`, written as new operations.

Lines are carried out in portions, one commit each, and what has been committed stays, whatever
comes after it. A line that is wrong is reported by its number and the others go on. The operations
add to what is there: counters count on, sets grow, registers are set anew. A line may give the
object a deadline, `"expires_at_ms"`; one whose deadline has passed is a wrong line.

Under a key every line is carried out once at a replica: an import that stopped half-way, or whose
answer was lost, can then be sent again from the start. Nothing here acts: an `Import` says what to
commit and is told what came of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from crdtdb import codec, jsonvalue
from crdtdb.address import ObjectName
from crdtdb.answers import WRONG_LINES_TOLD, Imported, WrongLine
from crdtdb.errors import BadRequest, CallerError, Field, Problem, TooLarge, shortened
from crdtdb.idempotency import KEY_CHARACTERS, KEY_TEXT
from crdtdb.limits import LIMITS
from crdtdb.operations import check_name, read_operation, too_many, type_named
from crdtdb.transaction import IdempotencyKey, Outcome, Transaction, Update

__all__ = ["Import", "Portion", "Portions", "check_import_key"]

#: One portion at most.
_PORTION_LINES: Final = 1_000
_PORTION_BYTES: Final = LIMITS.body_bytes

_FIELDS: Final = frozenset({*ObjectName._fields, "value"})
#: May be there besides: the object's deadline.
_DEADLINE: Final = "expires_at_ms"


class Portions:
    """Cuts lines into portions: the same lines always in the same way."""

    def __init__(self) -> None:
        self._lines: list[bytes | None] = []
        self._bytes = 0

    def add(self, line: bytes | str | None) -> bool:
        """One more line, None for one that was too long to keep; is the portion complete?

        Raises BadRequest for what is more than one line.
        """
        if isinstance(line, str):
            # What is no Unicode text becomes no UTF-8: a wrong line like any other.
            line = line.encode("utf-8", "surrogatepass")
        if line is not None:
            line = line.removesuffix(b"\n")
            if b"\n" in line:
                raise BadRequest(
                    "an import takes one line at a time; these are several",
                    Field("lines", "a line break within a line"),
                )
            self._bytes += len(line)
        self._lines.append(line)
        return len(self._lines) == _PORTION_LINES or self._bytes >= _PORTION_BYTES

    def take(self) -> list[bytes | None]:
        """The lines added since the last time."""
        lines, self._lines, self._bytes = self._lines, [], 0
        return lines


class _Line(NamedTuple):
    """A line that can be carried out."""

    number: int
    type: str
    transaction: Transaction


class Portion(NamedTuple):
    """Lines of one commit."""

    #: How many there are, wrong and empty ones included.
    size: int
    lines: list[_Line]
    wrong: list[tuple[int, Problem]]

    @property
    def transactions(self) -> list[Transaction]:
        """What to carry out, in one commit, each for itself."""
        return [line.transaction for line in self.lines]


def _anywhere(_bucket: str) -> None:
    """May be written to."""


class Import:
    """One import under way, or the rest of one."""

    def __init__(
        self,
        key: str | None = None,
        *,
        first: int = 1,
        check_bucket: Callable[[str], None] = _anywhere,
    ) -> None:
        """`first` is the number of the first line. `check_bucket` refuses where not to write.

        Raises BadRequest for what is no key.
        """
        if key is not None:
            check_import_key(key)
        self._key = key
        self._next = first
        self._check_bucket = check_bucket
        #: What has become of the lines.
        self.done = Imported()

    def read(self, lines: Sequence[bytes | None]) -> Portion:
        """What the next lines ask for. O(bytes)."""
        portion = Portion(len(lines), [], [])
        for number, text in enumerate(lines, self._next):
            if text is None or len(text) > LIMITS.body_bytes:
                limit = LIMITS.body_bytes
                problem = TooLarge(
                    f"a line has at most {limit} bytes", Field("", "line too long", limit)
                )
                portion.wrong.append((number, problem))
            elif text.strip():
                try:
                    portion.lines.append(self._line(number, text))
                except CallerError as error:
                    portion.wrong.append((number, error))
        return portion

    def _line(self, number: int, text: bytes) -> _Line:
        name, updates = _parsed(text)
        self._check_bucket(name.bucket)
        # No key of a request has a space, so it can be no other request's.
        key = None
        if self._key is not None:
            # Keeping the results would be keeping the values a second time.
            key = IdempotencyKey(
                f"{self._key} {number}", codec.fingerprint(text), keeps_results=False
            )
        return _Line(number, name.type, Transaction(updates, key=key))

    def settle(self, portion: Portion, outcomes: Sequence[Outcome]) -> None:
        """Take note of what came of a portion's transactions."""
        written: Counter[str] = Counter()
        repeated = 0
        wrong = list(portion.wrong)
        for line, outcome in zip(portion.lines, outcomes, strict=True):
            if outcome.error is not None:
                wrong.append((line.number, outcome.error))
            elif outcome.replayed is not None:
                repeated += 1
            else:
                written[line.type] += 1
        wrong.sort(key=lambda entry: entry[0])
        told = (_wrong_line(*entry) for entry in wrong[:WRONG_LINES_TOLD])
        self.done = self.done.plus(
            Imported(portion.size, dict(written), repeated, len(wrong), tuple(told))
        )
        self._next += portion.size

    def stopped(self, error: Problem) -> Problem:
        """The problem that ended the import, with how far it came."""
        return type(error)(
            f"{error.detail}; the import ended before line {self._next}, and what was written "
            "stays. Again from the start, every line counts once under the same key, but twice "
            "without one",
            *error.fields,
            retry_after_s=error.retry_after_s,
        )


def check_import_key(key: str) -> None:
    """Refuse what is no idempotency key. Raises BadRequest."""
    if not KEY_TEXT.fullmatch(key):
        raise BadRequest(
            f"an import's key is 1 to {KEY_CHARACTERS} visible ASCII characters; take a random one",
            Field("key", "not a key", KEY_CHARACTERS),
        )


def _wrong_line(number: int, error: Problem) -> WrongLine:
    field = error.fields[0].field if error.fields else None
    return WrongLine(number, error.slug, error.detail, field)


def _parsed(text: bytes) -> tuple[ObjectName, tuple[Update, ...]]:
    """The object and the operations that a line means. Raises problems that name the field."""
    document = jsonvalue.parse_document(text)
    if not isinstance(document, dict):
        raise BadRequest("a line is an object", Field("", "not an object"))
    if document.keys() - {_DEADLINE} != _FIELDS:
        field = min((document.keys() - {_DEADLINE}) ^ _FIELDS)
        state = "unknown" if field in document else "missing"
        raise BadRequest(
            f"a line has bucket, type, key and value; {shortened(field)!r} is {state}",
            Field(shortened(field), state),
        )
    parts: list[str] = []
    for field in ObjectName._fields:
        part = document[field]
        if not isinstance(part, str):
            raise BadRequest(f"`{field}` is a string", Field(field, "not a string"))
        parts.append(part)
    name = ObjectName(*parts)
    check_name(name)
    updates = tuple(
        Update(name, read_operation(name.type, plain).restoring(), seen)
        for plain, seen in type_named(name.type).restore(document["value"])
    )
    if _DEADLINE in document:
        plain = {"op": "expire", "at_ms": document[_DEADLINE]}
        updates = (*updates, Update(name, read_operation(name.type, plain)))
    if len(updates) > LIMITS.transaction_operations:
        raise too_many(len(updates))
    return name, updates
