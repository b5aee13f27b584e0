"""What can be asked next, with what an answer says: the links of the OpenAPI document.

Programs follow them as people would: from a write to a read of the same object, from a page to the
next one, from what a read showed to a delete of just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from crdtdb_server import conflicts, data, feed, listing
from crdtdb_server.parameters import AFTER, SEEN
from crdtdb_server.routing import Handler, Route

__all__ = ["links_of"]


class _Link(NamedTuple):
    """An operation that takes the path of the request before, and what its answer said."""

    handler: Handler
    #: Query parameter → the field of the answer that gives its value.
    query: Mapping[str, str] = MappingProxyType({})


_NEXT: Final = {AFTER.name: "next"}
_FROM_WRITES: Final = (_Link(data.get_object), _Link(data.post_object), _Link(data.delete_object))
#: Handlers → what follows.
_LINKS: Final[dict[Handler, tuple[_Link, ...]]] = {
    data.post_object: _FROM_WRITES,
    data.put_object: _FROM_WRITES,
    data.delete_object: _FROM_WRITES,
    data.get_object: (
        _Link(data.get_object, _NEXT),
        _Link(data.post_object),
        _Link(data.delete_object, {SEEN.name: "seen"}),
    ),
    listing.get_buckets: (_Link(listing.get_buckets, _NEXT),),
    listing.get_keys: (_Link(listing.get_keys, _NEXT), _Link(listing.delete_type)),
    conflicts.get_conflicts: (_Link(conflicts.get_conflicts, _NEXT),),
    feed.get_changes: (_Link(feed.get_changes, {"since": "cursor"}),),
}


def links_of(route: Route) -> dict[str, Any]:
    """The links of a route's answers; empty if nothing follows from them."""
    path = {f"path.{name}": f"$request.path.{name}" for name in route.names}
    return {
        link.handler.__name__: {
            "operationId": link.handler.__name__,
            "parameters": path
            | {f"query.{name}": f"$response.body#/{field}" for name, field in link.query.items()},
        }
        for link in _LINKS.get(route.handler, ())
    }
