"""`AsyncClient`: the asynchronous door over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from crdtdb.address import ObjectName
from crdtdb.answers import LEFT_OUT, Event, Given, Plain, Read, Written
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.reading import Digest
from crdtdb_client import calls
from crdtdb_client.asking import Asking
from crdtdb_client.async_handles import AsyncHandles
from crdtdb_client.calls import Call, Collected
from crdtdb_client.targets import path
from crdtdb_client.transport import AsyncTransport

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient(Asking, AsyncHandles):
    """One session with a cluster, for the tasks of one event loop, as many at once as you like.

    It has the methods of `Client`, which say what they do; those that ask are awaited.

        >>> async def shop() -> None:
        ...     async with AsyncClient([url]) as db:
        ...         cart = db.set("shop", "cart:42")
        ...         await cart.add("apple", "pear")
        ...         async with db.transaction() as tx:
        ...             tx.counter("shop", "sold").increment(2)
        ...             tx.set("shop", "cart:42").clear()
        ...         sold, left = await asyncio.gather(db.counter("shop", "sold").get(), cart.get())
        ...         print(sold.value, left.value)
        >>> import asyncio
        >>> asyncio.run(shop())
        2 []
    """

    def _connect(self, verify: SSLContext | bool) -> None:
        self._transport = AsyncTransport(verify)

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, call: Call[T]) -> T:
        return call.read(await self._transport.run(self._session.ask(call.request, self._terms)))

    # -- objects --------------------------------------------------------------------------------

    async def read(
        self,
        name: ObjectName,
        *,
        limit: int = LIMITS.page_items_default,
        after: str | None = None,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
    ) -> Read[Any]:
        """Read an object: its value, or a page of its members with `from_` ≤ member < `to`."""
        return await self._run(
            calls.read(name, limit=limit, after=after, from_=from_, to=to, reverse=reverse)
        )

    async def read_together(self, names: Sequence[ObjectName]) -> list[Read[Any]]:
        """Read objects as of one snapshot: of collections, the first page."""
        return await self._run(calls.read_together(names))

    async def contains(self, name: ObjectName, value: JsonValue) -> bool:
        """Is the value a member of the collection?"""
        return await self._run(calls.contains(name, value))

    async def explain(self, name: ObjectName, member: Given = LEFT_OUT) -> dict[str, Any]:
        """Why an object, or one member of it, reads as it does: a JSON document."""
        return await self._run(calls.explain(name, member))

    async def update(self, name: ObjectName, operations: list[Plain]) -> Written:
        """Carry out operations on one object, all or none."""
        return await self._run(calls.update(name, operations))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Collected]:
        """Collect writes in the block; they take effect together when it ends without an error.

        Afterwards `results` says what each of them did.
        """
        collected = Collected()
        yield collected
        if collected.updates:
            collected.results = await self._run(calls.transaction(collected.updates))

    # -- what there is, and what changes --------------------------------------------------------

    async def buckets(self) -> AsyncIterator[str]:
        """The buckets in which something exists."""
        after: str | None = None
        more = True
        while more:
            page = await self._run(calls.buckets(after))
            for one in page.items:
                yield one
            after, more = page.next, page.next is not None

    async def types(self, bucket: str) -> list[str]:
        """The types under which something exists in a bucket."""
        return await self._run(calls.types(bucket))

    async def objects(
        self, bucket: str, type_name: str, prefix: str = ""
    ) -> AsyncIterator[tuple[ObjectName, Read[Any]]]:
        """The objects of a type whose keys begin with `prefix`: of collections, the first page."""
        after: str | None = None
        more = True
        while more:
            page = await self._run(calls.objects(bucket, type_name, prefix, after))
            for one in page.items:
                yield one
            after, more = page.next, page.next is not None

    async def changes(
        self,
        bucket: str | None = None,
        type_name: str | None = None,
        key: str | None = None,
        *,
        since: str | None = None,
        include_value: bool = False,
        follow: bool = True,
    ) -> AsyncIterator[Event]:
        """What changes, from the start or after the cursor `since` (`"now"`: from here on).

        One event per changed record with its latest state; at least once, never a gap, also when
        it goes on at another replica. It waits for more; with `follow=False` it ends at the
        present. When no replica answers it raises: go on later, from the cursor of the last event.
        """
        scope = calls.Scope(bucket, type_name, key, include_value)
        more = True
        while more:
            page = await self._run(calls.change_page(scope, since, wait=follow))
            for one in page.events:
                yield one
            since, more = page.cursor, page.more or follow

    async def now(self) -> str:
        """The cursor of the present: what changes from here on comes after it.

        Unlike `since="now"` it stays the same moment, however often following is interrupted.
        """
        return await self._run(calls.present())

    # -- the replica and its cluster ------------------------------------------------------------

    async def about(self) -> dict[str, Any]:
        """The server's version, its replica and cluster, types, operations and limits."""
        return await self._run(calls.document(path()))

    async def readiness(self) -> str:
        """What the replica is doing: `serving`, `bootstrapping`, …"""
        return await self._run(calls.readiness())

    async def digest(self) -> Digest:
        """A hash over everything users see: equal exactly when two replicas show the same."""
        return await self._run(calls.digest())

    async def cluster(self) -> dict[str, Any]:
        """The members as this replica sees them, and what is stable."""
        return await self._run(calls.document(path("cluster")))

    async def put_fault(
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
        await self._run(
            calls.put_fault(
                replica,
                drop=drop,
                direction=direction,
                latency_ms=latency_ms,
                jitter_ms=jitter_ms,
                loss=loss,
            )
        )

    async def mend(self, replica: str) -> None:
        """Take the fault of a link away."""
        await self._run(calls.mend(replica))
