"""JSON documents in and out of the HTTP interface."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

import orjson

from crdtdb import jsonvalue
from crdtdb.errors import Field, TooLarge, UnsupportedMediaType
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb_server.bounds import Bounds
from crdtdb_server.exchange import JSON, UNREAD, Request

__all__ = ["array", "dump", "read_json", "read_large_json"]

_JSON_TYPE: Final = re.compile(
    r'application/json\s*(?:;\s*charset\s*=\s*(?:utf-8|"utf-8")\s*)?', re.IGNORECASE
)

#: Reading a larger text takes long enough for other requests to notice, so a thread does it.
_LARGE_BYTES: Final = 64 * 1024
#: One at a time: several take no less time together, but more memory, and more of the event loop's.
_READER: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="json")


def dump(document: Any) -> bytes:
    """Compact JSON text. Integers of any size are exact: counters know no bound."""
    try:
        return orjson.dumps(document)
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def array(documents: Iterable[Any], field: str) -> bytes:
    """JSON text of an array that may not grow beyond what one request may carry.

    Raises TooLarge, which names the field that asked for it.
    """
    parts: list[bytes] = []
    size = 0
    for document in documents:
        parts.append(part := dump(document))
        size += len(part)
        if size > LIMITS.body_bytes:
            raise TooLarge(
                f"the answer would have more than {LIMITS.body_bytes} bytes; ask for less",
                Field(field, "asks for too much", LIMITS.body_bytes),
            )
    return b"[" + b",".join(parts) + b"]"


def read_json(request: Request) -> JsonValue:
    """The body of a request, its numbers as written (`jsonvalue.parse_as_written`).

    Raises UnsupportedMediaType or BadRequest naming the place.
    """
    if not _is_json(request):
        raise UnsupportedMediaType(
            f"send the body as JSON, with Content-Type: {JSON}",
            Field("Content-Type", "other", JSON),
        )
    if request.document is not UNREAD:
        return cast(JsonValue, request.document)
    return jsonvalue.parse_as_written(request.body)


async def read_large_json(request: Request, bounds: Bounds) -> None:
    """Read a body ahead of `read_json`, in a thread, if that would hold up the event loop.

    Raises TooLarge, or BadRequest naming the place.
    """
    if not _is_json(request):
        return
    if len(request.body) > _LARGE_BYTES:
        loop = asyncio.get_running_loop()
        request.document = await loop.run_in_executor(_READER, _read_bounded, request.body, bounds)
    elif len(request.body) > bounds.unchecked_bytes:
        bounds.check_body(request.body)


def _read_bounded(body: bytes, bounds: Bounds) -> JsonValue:
    bounds.check_body(body)
    return jsonvalue.parse_as_written(body)


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "")
    return media_type == JSON or _JSON_TYPE.fullmatch(media_type.strip()) is not None
