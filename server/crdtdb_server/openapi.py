"""The OpenAPI 3.1 document, made from the definitions that requests are validated by.

Nothing here knows a route, a type or a parameter: routes come from the table, bodies from the
structs and types they are checked against, problems from the classes that are raised.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from crdtdb import __version__
from crdtdb.errors import (
    PROBLEMS,
    BadHeader,
    BadHost,
    BadRequest,
    BadToken,
    Behind,
    Bootstrapping,
    Evicted,
    Forbidden,
    IdempotencyMismatch,
    InvalidOperation,
    NoSpace,
    Overloaded,
    PreconditionFailed,
    Problem,
    ReadOnly,
    StorageFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownType,
    UnsupportedMediaType,
)
from crdtdb_server.access import Access
from crdtdb_server.acks import ACK
from crdtdb_server.answers import ProblemDocument
from crdtdb_server.conditions import IF_MATCH, IF_NONE_MATCH
from crdtdb_server.exchange import PROBLEM_JSON
from crdtdb_server.idempotency import KEY_HEADER
from crdtdb_server.links import links_of
from crdtdb_server.parameters import TYPE, FieldPath, Header, Json, Parameter
from crdtdb_server.peers.secret import PROOF_HEADER
from crdtdb_server.routing import Route
from crdtdb_server.schemas import Content, component_schemas, content_of
from crdtdb_server.session import CONTEXT, CONTEXT_HEADER, PREFER

__all__ = ["openapi_document"]

_INTRODUCTION: Final = """\
An always-writable multi-region database of conflict-free replicated data types.

Every replica answers reads and takes writes alone. Each answer carries a session token, \
`Crdtdb-Context`; sent along with the next request, to whatever replica, it makes sure that what \
was seen before is seen again.

Whatever goes wrong is answered as a problem (RFC 9457), `application/problem+json`; all kinds of \
them stand under "problems" below.
"""
_PROBLEMS: Final = "| code | status | |\n| --- | --- | --- |\n"
_SEGMENT: Final = re.compile(r"\{(\w+)\}")

#: What any request may meet.
_ALWAYS: Final = (BadRequest, BadToken, BadHeader, BadHost)
_OF_CALLERS: Final = (Unauthorized, Forbidden, Overloaded)
_OF_DATA: Final = (Bootstrapping, Behind, StorageFailed)
_OF_WRITES: Final = (InvalidOperation, TooLarge, Overloaded, ReadOnly, Evicted, NoSpace)
_OF_BODIES: Final = (TooLarge, UnsupportedMediaType, Overloaded)

#: Headers of every answer.
_EVERY_ANSWER: Final = {
    CONTEXT: "The session token: what this answer, and what the request named, covers",
    "Crdtdb-Replica": "The name of the replica that answers",
    "X-Request-Id": "The id of the request, the caller’s if it gave a sane one",
}
_SOME_ANSWERS: Final = {
    "Crdtdb-Staleness": "Seconds that this replica may be behind, and behind whom",
    "Crdtdb-Partial": "1: a large pull is joined in parts; what is shown is no one state",
}
_OBJECT_ANSWERS: Final = {
    "ETag": "Weak; where the object last changed at this replica",
    "Crdtdb-Exists": "true or false",
}
_WRITE_ANSWERS: Final = {
    "ETag": "Weak; where the object last changed at this replica",
    "Crdtdb-Acked": "How many hold the write, where Crdtdb-Ack asked for some",
    "Idempotency-Replayed": "true: this is the first answer, given again",
}
_REQUEST_ID: Final = Header("X-Request-Id", "A name for the request, for logs")

_SCHEMES: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of the server’s token file, if it was started with one",
    },
    "cluster": {
        "type": "apiKey",
        "in": "header",
        "name": PROOF_HEADER,
        "description": "An HMAC by the cluster’s secret, if the replica was started with one",
    },
}


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document that describes these routes."""
    routes = tuple(routes)
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = _operation(route)
    kinds = {
        kind.__name__: kind
        for route in routes
        for content in (*route.gives, *filter(None, (route.takes,)))
        for kind in content.kinds
    }
    kinds[ProblemDocument.__name__] = ProblemDocument
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "crdtdb",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [_described_tag(name) for name in dict.fromkeys(map(_tag, routes))],
        "paths": dict(paths),
        "components": {
            "schemas": component_schemas(kinds.values()),
            "securitySchemes": _SCHEMES,
            "headers": {**_described(_EVERY_ANSWER, required=True), **_described(_SOME_ANSWERS)},
        },
    }


def _described_tag(name: str) -> dict[str, str]:
    if name != "problems":
        return {"name": name}
    return {"name": name, "description": _PROBLEMS + "".join(_problem_rows())}


def _problem_rows() -> Iterator[str]:
    for slug, problem in PROBLEMS.items():
        yield f"| [`{slug}`](/problems/{slug}) | {problem.status} | {problem.title} |\n"


def _tag(route: Route) -> str:
    """The part of the interface that a route belongs to: the first fixed segment after `/v1`."""
    parts = [part for part in route.path.split("/") if part and part != "v1"]
    return parts[0] if parts and "." not in parts[0] else "server"


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": " ".join((route.handler.__doc__ or "").split()),
        "tags": [_tag(route)],
        "security": _security(route),
        "parameters": list(_parameters(route)),
        "responses": _responses(route),
    }
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.takes)}
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    """What proves who asks, and the scope that this takes; each includes those before it.

    The empty alternative: a server can be started without credentials.
    """
    match route.access:
        case Access.OPEN:
            return []
        case Access.PEER:
            return [{"cluster": []}, {}]
        case _:
            return [{"token": [route.access.value]}, {}]


def _content(content: Content) -> dict[str, Any]:
    shown: dict[str, Any] = {"schema": content.schema}
    if content.example is not None:
        shown["example"] = content.example
    return {content.media_type.partition(";")[0]: shown}


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in _SEGMENT.findall(route.path):
        yield _parameter("path", route.names[name]) | {"required": True}
    for parameter in route.query.values():
        yield _parameter("query", parameter)
    session = (PREFER,) if route.access.is_of_data else ()
    for header in (*route.headers, CONTEXT_HEADER, *session, _REQUEST_ID):
        yield {
            "name": header.name,
            "in": "header",
            "description": header.summary,
            "schema": {"type": "string", **header.form},
        }


def _parameter(place: str, parameter: Parameter[Any]) -> dict[str, Any]:
    how: Mapping[str, Any] = {"schema": parameter.schema}
    if isinstance(parameter, Json | FieldPath):
        how = {"content": {"application/json": how}}
    return {"name": parameter.name, "in": place, "description": parameter.summary, **how}


def _responses(route: Route) -> dict[str, Any]:
    contents: dict[str, Any] = {}
    for content in route.gives:
        contents |= _content(content)
    headers = _headers(route)
    done = {"description": "Done", "headers": headers, "content": contents}
    if links := links_of(route):
        done["links"] = links
    responses: dict[str, Any] = {str(status): done for status in route.statuses}
    if ACK in route.headers:
        less = "Done, but fewer hold it than Crdtdb-Ack asked for"
        responses["202"] = done | {"description": less}
    if IF_NONE_MATCH in route.headers:
        responses["304"] = {"description": "If-None-Match names its ETag", "headers": headers}
    by_status: defaultdict[int, list[type[Problem]]] = defaultdict(list)
    for problem in dict.fromkeys(_problems(route)):
        by_status[problem.status].append(problem)
    for status, problems in sorted(by_status.items()):
        responses.setdefault(str(status), _refusal(problems))
    return responses


def _problems(route: Route) -> Iterator[type[Problem]]:
    """What can be wrong with a request to the route."""
    yield from _ALWAYS
    if TYPE.name in route.names or TYPE.name in route.query:
        yield UnknownType
    if route.access not in (Access.OPEN, Access.PEER):
        yield from _OF_CALLERS
    if route.access.is_of_data:
        yield from _OF_DATA
    if route.access in (Access.WRITE, Access.ADMIN):
        yield from _OF_WRITES
    if route.takes is not None:
        yield from _OF_BODIES
    if IF_MATCH in route.headers:
        yield PreconditionFailed
    if KEY_HEADER in route.headers:
        yield IdempotencyMismatch
    yield from route.problems


def _refusal(problems: Iterable[type[Problem]]) -> dict[str, Any]:
    headers = _of_every_answer()
    if any(issubclass(problem, Unavailable) for problem in problems):
        headers |= _described({"Retry-After": "Seconds"})
    return {
        "description": ", ".join(f"`{problem.slug}`: {problem.title}" for problem in problems),
        "headers": headers,
        "content": {PROBLEM_JSON: {"schema": content_of(ProblemDocument).schema}},
    }


def _headers(route: Route) -> dict[str, Any]:
    """The headers of the answers that are no problems."""
    headers = _of_every_answer()
    if IF_NONE_MATCH in route.headers:
        headers |= _described(_OBJECT_ANSWERS, required=True)
    if ACK in route.headers:
        headers |= _described(_WRITE_ANSWERS)
    return headers


def _of_every_answer() -> dict[str, Any]:
    names = (*_EVERY_ANSWER, *_SOME_ANSWERS)
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _described(headers: Mapping[str, str], *, required: bool = False) -> dict[str, Any]:
    return {
        name: {"description": summary, "required": required, "schema": {"type": "string"}}
        for name, summary in headers.items()
    }
