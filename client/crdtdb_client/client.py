"""`Client`: the synchronous door over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

from crdtdb import jsonvalue
from crdtdb.address import ObjectName
from crdtdb.handles import Handles, Plain, Read, Updates, Written
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.reading import Digest
from crdtdb_client.session import Answer, Session
from crdtdb_client.targets import path, path_to

__all__ = ["Client"]


class Client(Handles):
    """One session with a cluster. Use it from one thread at a time; open as many as you like."""

    def __init__(self, urls: str | Sequence[str], *, timeout_s: float = 30.0) -> None:
        """`urls`: one replica, or several with the nearest first. Nothing is sent yet.

        Raises ValueError for what is not the URL of a replica.
        """
        self._session = Session([urls] if isinstance(urls, str) else urls, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- objects --------------------------------------------------------------------------------

    def read(
        self,
        name: ObjectName,
        *,
        limit: int = LIMITS.page_items_default,
        after: str | None = None,
        reverse: bool = False,
    ) -> Read[Any]:
        """Read an object: its value, or a page of its members."""
        target = path_to(
            name,
            limit=None if limit == LIMITS.page_items_default else limit,
            after=after,
            reverse="true" if reverse else None,
        )
        document, replica = self._session.read(target)
        return _read(document, replica)

    def read_together(self, names: Sequence[ObjectName]) -> list[Read[Any]]:
        """Read objects as of one snapshot: of collections, the first page."""
        wanted = [name._asdict() for name in names]
        document, replica = self._session.read(path("transactions"), {"reads": wanted})
        return [_read(read, replica) for read in document["reads"]]

    def contains(self, name: ObjectName, value: JsonValue) -> bool:
        """Is the value a member of the collection?"""
        text = jsonvalue.dump(jsonvalue.normalise(value)).decode()
        contained: bool = self._session.read(path_to(name, member=text)).document["value"]
        return contained

    def update(self, name: ObjectName, operations: list[Plain]) -> Written:
        """Carry out operations on one object, all or none."""
        body = operations[0] if len(operations) == 1 else operations
        done = self._session.write("POST", path_to(name), body).document
        return Written(done["changed"], done.get("value"), done.get("size"))

    @contextmanager
    def transaction(self) -> Iterator[Collected]:
        """Collect writes in the block; they take effect together when it ends without an error."""
        collected = Collected()
        yield collected
        if collected.updates:
            self._session.write("POST", path("transactions"), {"updates": collected.updates})

    # -- what there is --------------------------------------------------------------------------

    def buckets(self) -> Iterator[str]:
        """The buckets in which something exists."""
        for page in self._pages("buckets"):
            yield from page.document["buckets"]

    def types(self, bucket: str) -> list[str]:
        """The types under which something exists in a bucket."""
        types: list[str] = self._session.read(path("buckets", bucket)).document["types"]
        return types

    def objects(
        self, bucket: str, type_name: str, prefix: str = ""
    ) -> Iterator[tuple[ObjectName, Read[Any]]]:
        """The objects of a type whose keys begin with `prefix`: of collections, the first page."""
        for page in self._pages("buckets", bucket, type_name, prefix=prefix, values="true"):
            for document in page.document["objects"]:
                yield ObjectName(bucket, type_name, document["key"]), _read(document, page.replica)

    def _pages(self, *segments: str, **query: str) -> Iterator[Answer]:
        after: str | None = None
        while True:
            page = self._session.read(path(*segments, **query, after=after))
            yield page
            after = page.document.get("next")
            if after is None:
                return

    # -- the replica and its cluster ------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """The server's version, its replica and cluster, types, operations and limits."""
        return self._document(path())

    def readiness(self) -> str:
        """What the replica is doing: `serving`, `bootstrapping`, …"""
        state: str = self._document("/readyz")["state"]
        return state

    def digest(self) -> Digest:
        """A hash over everything users see: equal exactly when two replicas show the same."""
        document = self._document(path("digest"))
        return Digest(int(document["digest"], 16), document["objects"])

    def cluster(self) -> dict[str, Any]:
        """The members as this replica sees them, and what is stable."""
        return self._document(path("cluster"))

    def put_fault(
        self,
        replica: str,
        *,
        drop: bool = False,
        direction: Literal["both", "in", "out"] = "both",
        latency_ms: float = 0,
        jitter_ms: float = 0,
        loss: float = 0,
    ) -> None:
        """Break the link between this replica and another (servers started for that only)."""
        fault = {
            "drop": drop,
            "direction": direction,
            "latency_ms": latency_ms,
            "jitter_ms": jitter_ms,
            "loss": loss,
        }
        self._session.write("PUT", path("faults", "links", replica), fault)

    def mend(self, replica: str) -> None:
        """Take the fault of a link away."""
        self._session.write("DELETE", path("faults", "links", replica))

    def _document(self, target: str) -> dict[str, Any]:
        document: dict[str, Any] = self._session.read(target).document
        return document


class Collected(Updates[None]):
    """The writes of a transaction that is still being put together."""

    def __init__(self) -> None:
        self.updates: list[Plain] = []

    def _send(self, name: ObjectName, operations: list[Plain]) -> None:
        self.updates += [{**name._asdict(), **plain} for plain in operations]


def _read(document: dict[str, Any], replica: str) -> Read[Any]:
    return Read(
        document["value"],
        document["exists"],
        document.get("seen"),
        replica,
        size=document.get("size"),
        next=document.get("next"),
        also=tuple(document.get("also", ())),
    )
