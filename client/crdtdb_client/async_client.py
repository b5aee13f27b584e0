"""`AsyncClient`: the asynchronous door over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from crdtdb.address import ObjectName
from crdtdb.answers import (
    LEFT_OUT,
    Conflict,
    Enrolled,
    Event,
    FieldRead,
    Given,
    Imported,
    Order,
    Plain,
    Read,
    Standing,
    Written,
)
from crdtdb.comparing import Answer as Ranges
from crdtdb.comparing import Question
from crdtdb.importing import Portions, check_import_key
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.reading import Digest
from crdtdb_client import calls, operating
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
        order: Order = "member",
        prefix: Sequence[str] | None = None,
    ) -> Read[Any]:
        """Read an object: its value, or a page of its members with `from_` ≤ member < `to`.

        With an `order` other than that of members, the bounds are scores or ranks. Of a map it is
        a page of its nested value, or of the leaves at the field `prefix` and below.
        """
        return await self._run(
            calls.read(
                name,
                limit=limit,
                after=after,
                from_=from_,
                to=to,
                reverse=reverse,
                order=order,
                prefix=prefix,
            )
        )

    async def read_together(self, names: Sequence[ObjectName]) -> list[Read[Any]]:
        """Read objects as of one snapshot: of collections, the first page."""
        return await self._run(calls.read_together(names))

    async def contains(self, name: ObjectName, value: JsonValue) -> bool:
        """Is the value a member of the collection?"""
        return await self._run(calls.contains(name, value))

    async def difference(self, name: ObjectName, since: bytes = b"") -> bytes:
        """What somebody lacks of a text who has got as far as a Yjs state vector: an update."""
        return await self._run(calls.difference(name, since))

    async def enrol(self, name: ObjectName, since: bytes = b"") -> Enrolled:
        """The same, with a client id for an editor that is going to type there."""
        return await self._run(calls.enrol(name, since))

    async def standing(self, name: ObjectName, member: JsonValue) -> Standing | None:
        """Score and rank of a member of a sorted set; None if it is none."""
        return await self._run(calls.standing(name, member))

    async def field(self, name: ObjectName, path: Sequence[str]) -> FieldRead:
        """One field of a map: a leaf, or all that is below it if that is not more than a page."""
        return await self._run(calls.field(name, path))

    async def explain(
        self, name: ObjectName, member: Given = LEFT_OUT, field: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Why an object, one member, or one field of it, reads as it does: a JSON document."""
        return await self._run(calls.explain(name, member, field))

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

    async def export(self, bucket: str | None = None, prefix: str = "") -> AsyncIterator[bytes]:
        """Objects as lines of JSON, `{"bucket","type","key","value"}`, as much as there is.

        All, or those of a bucket, or those whose keys begin with `prefix`. What exists all the
        while is in it, each member once; an object's line shows one state of it. It comes page by
        page, and goes on at another replica if it must.
        """
        after: str | None = None
        more = True
        while more:
            page = await self._run(calls.export_page(bucket, prefix, after))
            for line in page.items:
                yield line
            after, more = page.next, page.next is not None

    async def import_(
        self,
        lines: Iterable[bytes | str] | AsyncIterable[bytes | str],
        *,
        key: str | None = None,
        progress: Callable[[Imported], object] | None = None,
    ) -> Imported:
        """Write the values of lines of JSON, as `export` gives them, as new operations.

        They add to what is there: counters count on, sets grow, registers are set anew. A thousand
        lines are a request, after which `progress` is told how far it is. A wrong line is reported
        by its number and the others go on. Under a `key` (random text) each line is written once:
        an import that was stopped can be run again from the start within 24 hours. The first
        replica remembers it, so only that one is asked.
        """
        if key is not None:
            check_import_key(key)
        portions = Portions()
        done = Imported()

        async def send() -> None:
            nonlocal done
            portion = portions.take()
            if portion:
                call = calls.import_portion(portion, key, done.lines + 1)
                done = done.plus(await self._run(call))
                if progress is not None:
                    progress(done)

        async for line in _each(lines):
            if portions.add(line):
                await send()
        await send()
        return done

    async def conflicts(
        self, bucket: str | None = None, type_name: str | None = None, key: str | None = None
    ) -> AsyncIterator[Conflict]:
        """Values that lost to a concurrent one, as the replica that answers saw it happen.

        The latest first; each value is told once, when it began to lose. The journal is bounded,
        and forgets the oldest. To get a value back, write it again. Each replica has a journal of
        its own: raises BadRequest when another has to be asked before the last page.
        """
        after: str | None = None
        more = True
        while more:
            page = await self._run(calls.conflicts(bucket, type_name, key, after))
            for one in page.items:
                yield one
            after, more = page.next, page.next is not None

    async def now(self) -> str:
        """The cursor of the present: what changes from here on comes after it.

        Unlike `since="now"` it stays the same moment, however often following is interrupted.
        """
        return await self._run(calls.present())

    # -- the replica and its cluster ------------------------------------------------------------

    async def about(self) -> dict[str, Any]:
        """The server's version, its replica and cluster, types, operations and limits."""
        return await self._run(operating.document(path()))

    async def readiness(self) -> str:
        """What the replica is doing: `serving`, `bootstrapping`, …"""
        return await self._run(operating.readiness())

    async def digest(self) -> Digest:
        """A hash over everything users see: equal exactly when two replicas show the same."""
        return await self._run(operating.digest())

    async def digest_ranges(self, question: Question, cluster: str) -> Ranges:
        """Hashes over ranges of objects, or of the records of one, to find where replicas differ.

        The replica must belong to that cluster. Raises BadToken if it does not.
        """
        return await self._run(operating.digest_ranges(question, cluster))

    async def verify(self, after: str | None = None) -> dict[str, Any]:
        """What is wrong with the next rows of the replica's store, and where to go on."""
        return await self._run(operating.verify(after))

    async def damage(self) -> dict[str, Any]:
        """What is damaged at the replica, and waits for a peer that can mend it."""
        return await self._run(operating.damage())

    async def accept_loss(
        self, name: ObjectName | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Give up what is damaged of an object, or of everything; what is lost, or would be."""
        return await self._run(operating.accept_loss(name, dry_run=dry_run))

    def backup(self) -> AsyncIterator[bytes]:
        """A backup of the nearest replica, in parts, as `crdtdb.backup.save` takes them.

        What breaks on the way is not repeated: a backup is begun anew.
        """
        return self._transport.stream(self._session.stream("/v1/backup"), self._session.refuse)

    async def cluster(self) -> dict[str, Any]:
        """The members as this replica sees them, and what is stable."""
        return await self._run(operating.document(path("cluster")))

    async def add_member(self, url: str) -> str | None:
        """Ask the replica at a URL to become a member; its name if it is one already."""
        return await self._run(operating.add_member(url))

    async def evict(self, replica: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Take a member out of the cluster; says what that changes and what is at stake."""
        return await self._run(operating.evict(replica, dry_run=dry_run))

    async def rejoin(self) -> str:
        """Take this replica, which was evicted, back into the cluster; its new incarnation."""
        return await self._run(operating.rejoin())

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
            operating.put_fault(
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
        await self._run(operating.mend(replica))


async def _each(
    lines: Iterable[bytes | str] | AsyncIterable[bytes | str],
) -> AsyncIterator[bytes | str]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line
