"""The routes, as data: what the server answers, and what the OpenAPI document is made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from crdtdb.errors import Field, MethodNotAllowed, UnknownRoute
from crdtdb.limits import LIMITS
from crdtdb_server import (
    about,
    data,
    exporting,
    feed,
    importing,
    listing,
    problems,
    transactions,
)
from crdtdb_server.exchange import Answer, Request, decode_segment
from crdtdb_server.parameters import READ_PARAMETERS
from crdtdb_server.service import Service

__all__ = ["ROUTES", "Access", "Handler", "Route", "Router", "WrongMethod"]

Handler: TypeAlias = Callable[[Service, Request], Awaitable[Answer]]


class Access(Enum):
    """What a route does to data, hence what its callers must be allowed to do."""

    #: About the server, not its data: no session, answered in every state.
    OPEN = "open"
    READ = "read"
    WRITE = "write"
    #: Removes or changes more than one object, or the cluster.
    ADMIN = "admin"


class Route(NamedTuple):
    """One method at one address."""

    method: str
    #: Segments in braces are parameters: decoded, and handed over in order.
    path: str
    handler: Handler
    access: Access
    summary: str
    #: The query parameters it takes.
    query: frozenset[str] = frozenset()
    #: The longest body it takes; 0: it takes none.
    body_bytes: int = 0
    #: Does it take a body of any length, part by part? `body_bytes` is then what it may hold.
    streamed: bool = False


_OBJECT: Final = "/v1/buckets/{bucket}/{type}/{key}"
_READ: Final = READ_PARAMETERS | {"explain"}
_PAGE: Final = frozenset({"after", "limit"})
_SEEN: Final = frozenset({"seen"})
_BODY: Final = LIMITS.body_bytes

ROUTES: Final = (
    Route("GET", _OBJECT, data.get_object, Access.READ, "Read an object", _READ),
    Route("POST", _OBJECT, data.post_object, Access.WRITE, "Change an object", body_bytes=_BODY),
    Route("PUT", _OBJECT, data.put_object, Access.WRITE, "Set a register", _SEEN, _BODY),
    Route("DELETE", _OBJECT, data.delete_object, Access.WRITE, "Delete an object", _SEEN),
    Route("GET", "/v1/buckets", listing.get_buckets, Access.READ, "List buckets", _PAGE),
    Route("GET", "/v1/buckets/{bucket}", listing.get_bucket, Access.READ, "List a bucket’s types"),
    Route(
        "GET",
        "/v1/buckets/{bucket}/{type}",
        listing.get_keys,
        Access.READ,
        "List keys or objects",
        _PAGE | {"prefix", "values"},
    ),
    Route(
        "DELETE",
        "/v1/buckets/{bucket}",
        listing.delete_bucket,
        Access.ADMIN,
        "Delete all objects of a bucket",
        frozenset({"dry_run"}),
    ),
    Route(
        "DELETE",
        "/v1/buckets/{bucket}/{type}",
        listing.delete_type,
        Access.ADMIN,
        "Delete objects of a type by key prefix",
        frozenset({"dry_run", "prefix"}),
    ),
    Route(
        "POST",
        "/v1/transactions",
        transactions.post_transaction,
        Access.WRITE,
        "Read one snapshot and change several objects atomically",
        body_bytes=_BODY,
    ),
    Route(
        "GET",
        "/v1/changes",
        feed.get_changes,
        Access.READ,
        "Follow what changes",
        feed.CHANGE_PARAMETERS,
    ),
    Route(
        "POST",
        "/v1/import",
        importing.post_import,
        Access.WRITE,
        "Write the values of lines of JSON",
        body_bytes=2 * _BODY,
        streamed=True,
    ),
    Route(
        "GET",
        "/v1/export",
        exporting.get_export,
        Access.READ,
        "All objects as lines of JSON",
        exporting.EXPORT_PARAMETERS,
    ),
    Route("GET", "/v1", about.get_about, Access.OPEN, "Describe the server"),
    Route("GET", "/v1/digest", about.get_digest, Access.READ, "Hash all visible data"),
    Route("GET", "/healthz", about.get_health, Access.OPEN, "Is the process alive?"),
    Route("GET", "/readyz", about.get_readiness, Access.OPEN, "Should it get requests?"),
    Route("GET", "/metrics", about.get_metrics, Access.OPEN, "Metrics for Prometheus"),
    Route("GET", "/problems/{slug}", problems.problem_page, Access.OPEN, "Explain a problem"),
)


class WrongMethod(MethodNotAllowed):
    """The address is known, the method is not; `allow` lists those that are."""

    def __init__(self, method: str, methods: Iterable[str]) -> None:
        self.allow = ", ".join(methods)
        super().__init__(
            f"{method} is not possible here; there is {self.allow}",
            Field("method", "not allowed here", self.allow),
        )


class _Node:
    """One position in the tree of addresses."""

    __slots__ = ("literals", "methods", "parameter", "parameter_name")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.parameter_name = ""
        self.methods: dict[str, Route] = {}


class Router:
    """Finds the route of a raw path. The cost grows with the path, not with the table."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path[1:].split("/"):
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node.parameter_name = segment[1:-1]
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        node.methods[route.method] = route
        if route.method == "GET":
            node.methods["HEAD"] = route

    def find(self, method: str, raw_path: str) -> tuple[Route, tuple[str, ...]]:
        """The route and the values of its parameters.

        Fixed segments are compared as they were sent, so `/%6detrics` is no way around a proxy's
        rule about `/metrics`. Raises UnknownRoute, WrongMethod or, for what cannot be decoded,
        BadRequest naming the parameter.
        """
        node: _Node | None = self._root
        names: list[str] = []
        segments = raw_path[1:].split("/")
        for segment in segments:
            assert node is not None
            below = node.literals.get(segment)
            if below is None and node.parameter is not None:
                names.append(decode_segment(segment, node.parameter_name))
                below = node.parameter
            node = below
            if node is None:
                break
        if node is None or not node.methods:
            for segment in segments:
                decode_segment(segment, "path")
            raise UnknownRoute("there is nothing at this address; GET /v1 describes what there is")
        route = node.methods.get(method)
        if route is None:
            raise WrongMethod(method, node.methods)
        return route, tuple(names)
