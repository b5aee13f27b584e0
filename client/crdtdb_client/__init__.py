"""crdtdb_client: crdtdb over HTTP, with the handles and errors of the embedded database.

    from crdtdb_client import Client

    with Client(["http://eu:7460", "http://us:7460"]) as db:    # nearest first
        cart = db.set("shop", "cart:42")
        cart.add("apple")
        assert "apple" in cart

`AsyncClient` has the same methods, to be awaited. Nothing here imports the server.
"""

from crdtdb_client.async_client import AsyncClient
from crdtdb_client.client import Client
from crdtdb_client.errors import OutcomeUnknown, UnexpectedAnswer, Unreachable

__all__ = ["AsyncClient", "Client", "OutcomeUnknown", "UnexpectedAnswer", "Unreachable"]
