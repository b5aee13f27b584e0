"""crdtdb on the network: the HTTP interface of a replica.

`serving` puts a `crdtdb.Database` on a socket. A *front* speaks HTTP and hands each request to the
`Dispatcher`, which finds its route and lets the handler answer; writes go through the `Writer`.
`serve_in_thread` makes a database that a program has opened a live replica.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crdtdb_server.embedding import ServerThread, serve_in_thread

__all__ = ["ServerThread", "serve_in_thread"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: the shell's commands have no use for a server.
    if name in __all__:
        from crdtdb_server import embedding

        return getattr(embedding, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
