"""`POST /v1/import`: lines of JSON, written as new operations (`crdtdb.importing`).

The body may be as long as one likes: it is carried out while it arrives. With an `Idempotency-Key`
every line is carried out once under that key. An import that stopped half-way, or whose answer was
lost, can then be sent again, from the start or (`first`) from a line in the middle.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from crdtdb.answers import Imported
from crdtdb.errors import BadHeader, CallerError, Field, Unavailable, UnsupportedMediaType
from crdtdb.importing import Import, Portions
from crdtdb.limits import LIMITS
from crdtdb.transaction import Outcome
from crdtdb_server.documents import dump
from crdtdb_server.exchange import NDJSON, Answer, Request
from crdtdb_server.idempotency import key_of
from crdtdb_server.lines import split_lines
from crdtdb_server.parameters import WholeNumber, parameters
from crdtdb_server.service import Service

__all__ = ["IMPORT_PARAMETERS", "post_import"]

_FIRST: Final = WholeNumber("first", "The number of the first line", 1, 10**15, default=1)
IMPORT_PARAMETERS: Final = parameters(_FIRST)

_MEDIA_TYPE: Final = re.compile(
    re.escape(NDJSON) + r"\s*(?:;\s*charset\s*=\s*(?:utf-8|\"utf-8\")\s*)?", re.IGNORECASE
)
#: Headers about one write; an import is many.
_OF_ONE_WRITE: Final = ("If-Match", "If-None-Match", "Crdtdb-Ack")


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
    key = key_of(request)
    under_way = Import(
        None if key is None else key.text,
        first=_FIRST.of(request.query),
        check_bucket=lambda bucket: request.principal.check_bucket(bucket, "bucket"),
    )
    portions = Portions()
    try:
        async for line in split_lines(request.parts, LIMITS.body_bytes):
            if portions.add(line):
                await _commit(service, under_way, portions)
        await _commit(service, under_way, portions)
    except (CallerError, Unavailable) as error:
        raise under_way.stopped(error) from error
    return Answer(dump(_document(under_way.done)), service.seen)


async def _commit(service: Service, under_way: Import, portions: Portions) -> None:
    """Write the lines that wait, in one commit; each takes effect or is reported."""
    portion = await asyncio.to_thread(under_way.read, portions.take())
    outcomes: tuple[Outcome, ...] = ()
    if portion.transactions:
        outcomes = await service.carry_out_all(portion.transactions)
    under_way.settle(portion, outcomes)


def _document(done: Imported) -> dict[str, Any]:
    errors: list[dict[str, Any]] = []
    for wrong in done.errors:
        error: dict[str, Any] = {"line": wrong.line, "code": wrong.code, "detail": wrong.detail}
        if wrong.field is not None:
            error["field"] = wrong.field
        errors.append(error)
    return {
        "lines": done.lines,
        "written": dict(done.written),
        "repeated": done.repeated,
        "failed": done.failed,
        "errors": errors,
    }
