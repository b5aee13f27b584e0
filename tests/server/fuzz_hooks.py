"""What schemathesis cannot know of crdtdb: tokens that are real, lines of JSON, requests that wait.

Loaded by schemathesis in a process of its own (`test_drift.py`).
"""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st

from crdtdb.operations import operation_names
from crdtdb.types import CATALOGUE

for _kind in ("session-token", "read-context", "change-cursor"):
    schemathesis.openapi.format(_kind, st.just(os.environ[_kind]))


_OBJECT = "/v1/buckets/{bucket}/{type}/{key}"
#: Operation → the types that have it.
_TYPES: dict[object, list[str]] = {}
for _type in sorted(CATALOGUE):
    for _op in operation_names(_type):
        _TYPES.setdefault(_op, []).append(_type)


def _first_operation(body: Any) -> object:
    first = body[0] if isinstance(body, list) and body else body
    op = first.get("op") if isinstance(first, dict) else None
    return op if isinstance(op, str) else None


@schemathesis.serializer("application/x-ndjson")
def lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """One line with the value."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Clients must take fields they do not know; here each one that is not described is drift."""
    for name, schema in raw_schema["components"]["schemas"].items():
        if name.endswith("Document"):
            schema["additionalProperties"] = False


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: Any
) -> None:
    """A poll does not wait, and a stream, which has no end, becomes a poll. Operations go to a type
    that has them: by chance hardly any would."""
    if case.operation.path == _OBJECT and case.method in ("POST", "PUT"):
        op = "set" if case.method == "PUT" else _first_operation(case.body)
        types = _TYPES.get(op, [])
        if case.path_parameters.get("type") in CATALOGUE and types:
            case.path_parameters["type"] = types[len(str(case.path_parameters)) % len(types)]
    if case.operation.path != "/v1/changes":
        return
    if case.query.get("feed") == "sse":
        case.query["feed"] = "longpoll"
    if case.query.get("feed") == "longpoll" and str(case.query.get("timeout", "30")).isdecimal():
        case.query["timeout"] = 0
