"""`POST /v1/import`: lines of JSON, `{"bucket","type","key","value"}`, written as new operations.

The body may be as long as one likes: it is carried out while it arrives, a thousand lines to a
commit, and what has been committed stays, whatever comes after it. A line that is wrong is
reported by its number and the others go on. The operations add to what is there: counters count
on, sets grow, registers are set anew.

With an `Idempotency-Key` every line is carried out once under that key. An import that stopped
half-way, or whose answer was lost, can then be sent again from the start.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any, Final, NamedTuple

from crdtdb import codec, jsonvalue
from crdtdb.address import ObjectName
from crdtdb.database import check_name, too_many
from crdtdb.errors import (
    BadHeader,
    BadRequest,
    CallerError,
    Field,
    Problem,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
    shortened,
)
from crdtdb.limits import LIMITS
from crdtdb.operations import read_operation, type_named
from crdtdb.transaction import IdempotencyKey, Transaction, Update
from crdtdb_server.access import Principal
from crdtdb_server.documents import dump
from crdtdb_server.exchange import NDJSON, Answer, Request
from crdtdb_server.idempotency import key_of
from crdtdb_server.lines import split_lines
from crdtdb_server.service import Service

__all__ = ["post_import"]

#: One commit at most.
_COMMIT_LINES: Final = 1_000
_COMMIT_BYTES: Final = LIMITS.body_bytes
#: Wrong lines that the answer tells of one by one; the others are only counted.
_REPORTED: Final = 100

_FIELDS: Final = frozenset({*ObjectName._fields, "value"})
_MEDIA_TYPE: Final = re.compile(
    re.escape(NDJSON) + r"\s*(?:;\s*charset\s*=\s*(?:utf-8|\"utf-8\")\s*)?", re.IGNORECASE
)
#: Headers about one write; an import is many.
_OF_ONE_WRITE: Final = ("If-Match", "If-None-Match", "Crdtdb-Ack")


class _Line(NamedTuple):
    """A line that can be carried out."""

    number: int
    type: str
    transaction: Transaction


async def post_import(service: Service, request: Request) -> Answer:
    """Write the values of a body of lines; answers with what was written and what was wrong."""
    if not _MEDIA_TYPE.fullmatch(request.headers.get("content-type", "").strip()):
        raise UnsupportedMediaType(
            f"send lines of JSON, with Content-Type: {NDJSON}",
            Field("Content-Type", "other", NDJSON),
        )
    for header in _OF_ONE_WRITE:
        if header.lower() in request.headers:
            raise BadHeader(f"{header} is not for imports", Field(header, "not here"))
    assert request.parts is not None
    progress = _Import(service, request.principal, key_of(request))
    try:
        async for line in split_lines(request.parts, LIMITS.body_bytes):
            await progress.take(line)
        await progress.commit()
    except (CallerError, Unavailable) as error:
        raise progress.stopped(error) from error
    return Answer(dump(progress.summary()), service.seen)


class _Import:
    """One import under way."""

    def __init__(self, service: Service, principal: Principal, key: IdempotencyKey | None) -> None:
        self._service = service
        self._principal = principal
        self._key = key
        #: The lines of the next commit, with their numbers.
        self._waiting: list[tuple[int, bytes]] = []
        self._waiting_bytes = 0
        self._lines = 0
        #: Lines written, by type; and those that an earlier import under this key had written.
        self._written: Counter[str] = Counter()
        self._repeated = 0
        self._failed = 0
        self._errors: list[dict[str, Any]] = []

    async def take(self, text: bytes | None) -> None:
        """One more line; None: one that was too long to keep."""
        self._lines += 1
        if text is None:
            limit = LIMITS.body_bytes
            error = TooLarge(f"a line has at most {limit} bytes", Field("", "line too long", limit))
            self._report(self._lines, error)
        elif text.strip():
            self._waiting.append((self._lines, text))
            self._waiting_bytes += len(text)
            if len(self._waiting) == _COMMIT_LINES or self._waiting_bytes >= _COMMIT_BYTES:
                await self.commit()

    async def commit(self) -> None:
        """Write the lines that wait, in one commit; each takes effect or is reported."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return
        lines, wrong = await asyncio.to_thread(self._read, waiting)
        outcomes = await self._service.carry_out_all([line.transaction for line in lines])
        for line, outcome in zip(lines, outcomes, strict=True):
            if outcome.error is not None:
                wrong.append((line.number, outcome.error))
            elif outcome.replayed is not None:
                self._repeated += 1
            else:
                self._written[line.type] += 1
        for number, error in sorted(wrong, key=lambda entry: entry[0]):
            self._report(number, error)

    def _read(
        self, waiting: list[tuple[int, bytes]]
    ) -> tuple[list[_Line], list[tuple[int, Problem]]]:
        """What the lines ask for, and what is wrong with the others."""
        lines: list[_Line] = []
        wrong: list[tuple[int, Problem]] = []
        for number, text in waiting:
            try:
                name, updates = _parsed(text)
                self._principal.check_bucket(name.bucket, "bucket")
            except CallerError as error:
                wrong.append((number, error))
            else:
                key = self._key and IdempotencyKey(
                    # No key of a request has a space, so it can be no other request's.
                    f"{self._key.text} {number}",
                    codec.fingerprint(text),
                )
                lines.append(_Line(number, name.type, Transaction(updates, key=key)))
        return lines, wrong

    def _report(self, number: int, error: Problem) -> None:
        self._failed += 1
        if len(self._errors) < _REPORTED:
            report: dict[str, Any] = {
                "line": number,
                "code": error.slug,
                "detail": error.detail,
            }
            if error.fields:
                report["field"] = error.fields[0].field
            self._errors.append(report)

    def summary(self) -> dict[str, Any]:
        """What has become of the lines."""
        return {
            "lines": self._lines,
            "written": dict(sorted(self._written.items())),
            "repeated": self._repeated,
            "failed": self._failed,
            "errors": self._errors,
        }

    def stopped(self, error: Problem) -> Problem:
        """The problem that ended the import, with how far it came."""
        done = self._written.total() + self._repeated
        how = (
            "send it again with the same Idempotency-Key"
            if self._key is not None
            else "without an Idempotency-Key, sending it again counts counters twice"
        )
        return type(error)(
            f"{error.detail}; {done} lines are written and stay: {how}",
            *error.fields,
            retry_after_s=error.retry_after_s,
        )


def _parsed(text: bytes) -> tuple[ObjectName, tuple[Update, ...]]:
    """The object and the operations that a line means. Raises problems that name the field."""
    document = jsonvalue.parse(text)
    if not isinstance(document, dict):
        raise BadRequest("a line is an object", Field("", "not an object"))
    if document.keys() != _FIELDS:
        field = min(document.keys() ^ _FIELDS)
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
        Update(name, read_operation(name.type, plain), seen)
        for plain, seen in type_named(name.type).restore(document["value"])
    )
    if len(updates) > LIMITS.transaction_operations:
        raise too_many(len(updates))
    return name, updates
