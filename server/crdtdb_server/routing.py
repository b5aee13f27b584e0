"""What a route is, and how the one that a request means is found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from crdtdb.errors import Field, MethodNotAllowed, Problem, UnknownRoute, shortened
from crdtdb_server.access import Access
from crdtdb_server.exchange import Answer, Request, decode_segment
from crdtdb_server.parameters import Header, Parameters, parameters
from crdtdb_server.schemas import Content
from crdtdb_server.service import Service

__all__ = ["Handler", "Route", "Router", "WrongMethod"]

#: One that waits for nothing is a plain function: its answer needs no task.
Handler: TypeAlias = Callable[[Service, Request], Answer | Awaitable[Answer]]


_NO_PARAMETERS: Final = parameters()
#: Paths without their last segment, of which it is known where they lead.
_KEPT: Final = 256


class Route(NamedTuple):
    """One method at one address."""

    method: str
    #: Segments in braces are parameters: decoded, and handed over in order.
    path: str
    handler: Handler
    access: Access
    summary: str
    #: What kinds of body its answers have.
    gives: tuple[Content, ...]
    #: The parameters in its path.
    names: Parameters = _NO_PARAMETERS
    #: The parameters of the query.
    query: Parameters = _NO_PARAMETERS
    #: What it heeds in the head of a request, besides what every route does.
    headers: tuple[Header, ...] = ()
    #: What its body holds; None: it takes none.
    takes: Content | None = None
    #: The longest body it takes.
    body_bytes: int = 0
    #: Does it take a body of any length, part by part? `body_bytes` is then what it may hold.
    streamed: bool = False
    #: Does its handler itself hold every bucket it touches against the caller's?
    by_bucket: bool = False
    #: The statuses of answers that are no problems.
    statuses: tuple[int, ...] = (200,)
    #: What can be wrong with a request to it, besides what can be with any of its kind.
    problems: tuple[type[Problem], ...] = ()


class WrongMethod(MethodNotAllowed):
    """The address is known, the method is not; `allow` lists those that are."""

    def __init__(self, method: str, methods: Iterable[str]) -> None:
        self.allow = ", ".join(methods)
        super().__init__(
            f"{shortened(method)} is not possible here; there is {self.allow}",
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
        #: Many paths differ in their last segment only.
        self._steps = lru_cache(maxsize=_KEPT)(self._walk)
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
        above, _, last = raw_path.rpartition("/")
        node, names = self._steps(above)
        if node is not None:
            below = node.literals.get(last)
            if below is None and node.parameter is not None:
                below = node.parameter
                names = (*names, decode_segment(last, node.parameter_name))
            node = below
        if node is None or not node.methods:
            for segment in raw_path[1:].split("/"):
                decode_segment(segment, "path")
            raise UnknownRoute(
                "there is nothing at this address; GET /v1 describes what there is",
                Field("path", "nothing is served here"),
            )
        route = node.methods.get(method)
        if route is None:
            raise WrongMethod(method, node.methods)
        return route, names

    def _walk(self, raw_path: str) -> tuple[_Node | None, tuple[str, ...]]:
        """Where a path leads, one segment after the other, and the parameters on the way."""
        node = self._root
        names: list[str] = []
        for segment in raw_path.split("/")[1:]:
            below = node.literals.get(segment)
            if below is None and node.parameter is not None:
                below = node.parameter
                names.append(decode_segment(segment, node.parameter_name))
            if below is None:
                return None, ()
            node = below
        return node, tuple(names)
