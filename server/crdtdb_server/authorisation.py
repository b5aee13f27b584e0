"""Whether a caller may do what a request asks: the one place that decides it for every route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtdb_server.access import Principal
from crdtdb_server.parameters import BUCKET
from crdtdb_server.routing import Route

__all__ = ["authorise"]


def authorise(
    principal: Principal, route: Route, names: tuple[str, ...], query: Mapping[str, Any]
) -> None:
    """Hold a request against its caller's scope and buckets. Raises Forbidden.

    A caller bound to buckets must name one of them, in the path or in the query. A request that
    names none touches everything, which such a caller may not; unless the handler of the route
    looks at each bucket by itself (`Route.by_bucket`).
    """
    principal.check_scope(route.access)
    if principal.buckets is None or route.by_bucket or not route.access.is_of_data:
        return
    if BUCKET.name in route.names:
        principal.check_bucket(names[list(route.names).index(BUCKET.name)], BUCKET.name)
    else:
        principal.check_bucket(BUCKET.of(query), BUCKET.name)
