"""`Client`: the synchronous door over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
from crdtdb.handles import Handles
from crdtdb.importing import Portions, check_import_key
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.reading import Digest
from crdtdb_client import calls, operating
from crdtdb_client.asking import Asking
from crdtdb_client.calls import Call, Collected
from crdtdb_client.targets import path
from crdtdb_client.transport import Transport

__all__ = ["Client"]

T = TypeVar("T")


class Client(Asking, Handles):
    """One session with a cluster. Use it from one thread at a time; open as many as you like.

    It asks the nearest replica that answers, carries the session token from one to the next, and
    repeats what can be repeated. A write counts once, whatever breaks.

        >>> with Client([url]) as db:
        ...     cart = db.set("shop", "cart:42")
        ...     _ = cart.add("apple", "pear")
        ...     "apple" in cart, len(cart), list(cart)
        (True, 2, ['apple', 'pear'])
    """

    def _connect(self, verify: SSLContext | bool) -> None:
        self._transport = Transport(verify)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        return call.read(self._transport.run(self._session.ask(call.request, self._terms)))

    # -- objects --------------------------------------------------------------------------------

    def read(
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
        return self._run(
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

    def read_together(self, names: Sequence[ObjectName]) -> list[Read[Any]]:
        """Read objects as of one snapshot: of collections, the first page."""
        return self._run(calls.read_together(names))

    def contains(self, name: ObjectName, value: JsonValue) -> bool:
        """Is the value a member of the collection?"""
        return self._run(calls.contains(name, value))

    def difference(self, name: ObjectName, since: bytes = b"") -> bytes:
        """What somebody lacks of a text who has got as far as a Yjs state vector: an update."""
        return self._run(calls.difference(name, since))

    def enrol(self, name: ObjectName, since: bytes = b"") -> Enrolled:
        """The same, with a client id for an editor that is going to type there."""
        return self._run(calls.enrol(name, since))

    def standing(self, name: ObjectName, member: JsonValue) -> Standing | None:
        """Score and rank of a member of a sorted set; None if it is none."""
        return self._run(calls.standing(name, member))

    def field(self, name: ObjectName, path: Sequence[str]) -> FieldRead:
        """One field of a map: a leaf, or all that is below it if that is not more than a page."""
        return self._run(calls.field(name, path))

    def explain(
        self, name: ObjectName, member: Given = LEFT_OUT, field: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Why an object, one member, or one field of it, reads as it does: a JSON document."""
        return self._run(calls.explain(name, member, field))

    def update(self, name: ObjectName, operations: list[Plain]) -> Written:
        """Carry out operations on one object, all or none."""
        return self._run(calls.update(name, operations))

    @contextmanager
    def transaction(self) -> Iterator[Collected]:
        """Collect writes in the block; they take effect together when it ends without an error.

        Afterwards `results` says what each of them did.
        """
        collected = Collected()
        yield collected
        if collected.updates:
            collected.results = self._run(calls.transaction(collected.updates))

    # -- what there is, and what changes --------------------------------------------------------

    def buckets(self) -> Iterator[str]:
        """The buckets in which something exists."""
        after: str | None = None
        more = True
        while more:
            page = self._run(calls.buckets(after))
            yield from page.items
            after, more = page.next, page.next is not None

    def types(self, bucket: str) -> list[str]:
        """The types under which something exists in a bucket."""
        return self._run(calls.types(bucket))

    def objects(
        self, bucket: str, type_name: str, prefix: str = ""
    ) -> Iterator[tuple[ObjectName, Read[Any]]]:
        """The objects of a type whose keys begin with `prefix`: of collections, the first page."""
        after: str | None = None
        more = True
        while more:
            page = self._run(calls.objects(bucket, type_name, prefix, after))
            yield from page.items
            after, more = page.next, page.next is not None

    def changes(
        self,
        bucket: str | None = None,
        type_name: str | None = None,
        key: str | None = None,
        *,
        since: str | None = None,
        include_value: bool = False,
        follow: bool = True,
    ) -> Iterator[Event]:
        """What changes, from the start or after the cursor `since` (`"now"`: from here on).

        One event per changed record with its latest state; at least once, never a gap, also when
        it goes on at another replica. It waits for more; with `follow=False` it ends at the
        present. When no replica answers it raises: go on later, from the cursor of the last event.

            >>> with Client(url) as db:
            ...     _ = db.register("news", "headline").set("It works")
            ...     for event in db.changes("news", include_value=True, follow=False):
            ...         print(event.name.key, event.value)
            headline It works
        """
        scope = calls.Scope(bucket, type_name, key, include_value)
        more = True
        while more:
            page = self._run(calls.change_page(scope, since, wait=follow))
            yield from page.events
            since, more = page.cursor, page.more or follow

    def export(self, bucket: str | None = None, prefix: str = "") -> Iterator[bytes]:
        """Objects as lines of JSON, `{"bucket","type","key","value"}`, as much as there is.

        All, or those of a bucket, or those whose keys begin with `prefix`. What exists all the
        while is in it, each member once; an object's line shows one state of it. It comes page by
        page, and goes on at another replica if it must.
        """
        after: str | None = None
        more = True
        while more:
            page = self._run(calls.export_page(bucket, prefix, after))
            yield from page.items
            after, more = page.next, page.next is not None

    def import_(
        self,
        lines: Iterable[bytes | str],
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

            >>> with Client(url) as db:
            ...     db.import_(db.export("nothing"))
            Imported(lines=0, written={}, repeated=0, failed=0, errors=())
        """
        if key is not None:
            check_import_key(key)
        portions = Portions()
        done = Imported()

        def send() -> None:
            nonlocal done
            portion = portions.take()
            if portion:
                call = calls.import_portion(portion, key, done.lines + 1)
                done = done.plus(self._run(call))
                if progress is not None:
                    progress(done)

        for line in lines:
            if portions.add(line):
                send()
        send()
        return done

    def conflicts(
        self, bucket: str | None = None, type_name: str | None = None, key: str | None = None
    ) -> Iterator[Conflict]:
        """Values that lost to a concurrent one, as the replica that answers saw it happen.

        The latest first; each value is told once, when it began to lose. The journal is bounded,
        and forgets the oldest. To get a value back, write it again. Each replica has a journal of
        its own: raises BadRequest when another has to be asked before the last page.
        """
        after: str | None = None
        more = True
        while more:
            page = self._run(calls.conflicts(bucket, type_name, key, after))
            yield from page.items
            after, more = page.next, page.next is not None

    def now(self) -> str:
        """The cursor of the present: what changes from here on comes after it.

        Unlike `since="now"` it stays the same moment, however often following is interrupted.
        """
        return self._run(calls.present())

    # -- the replica and its cluster ------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """The server's version, its replica and cluster, types, operations and limits."""
        return self._run(operating.document(path()))

    def readiness(self) -> str:
        """What the replica is doing: `serving`, `bootstrapping`, …"""
        return self._run(operating.readiness())

    def digest(self) -> Digest:
        """A hash over everything users see: equal exactly when two replicas show the same."""
        return self._run(operating.digest())

    def digest_ranges(self, question: Question, cluster: str) -> Ranges:
        """Hashes over ranges of objects, or of the records of one, to find where replicas differ.

        The replica must belong to that cluster. Raises BadToken if it does not.
        """
        return self._run(operating.digest_ranges(question, cluster))

    def verify(self, after: str | None = None) -> dict[str, Any]:
        """What is wrong with the next rows of the replica's store, and where to go on."""
        return self._run(operating.verify(after))

    def damage(self) -> dict[str, Any]:
        """What is damaged at the replica, and waits for a peer that can mend it."""
        return self._run(operating.damage())

    def accept_loss(
        self, name: ObjectName | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Give up what is damaged of an object, or of everything; what is lost, or would be."""
        return self._run(operating.accept_loss(name, dry_run=dry_run))

    def backup(self) -> Iterator[bytes]:
        """A backup of the nearest replica, in parts, for `crdtdb.backup.save`.

        What breaks on the way is not repeated: a backup is begun anew.
        """
        return self._transport.stream(self._session.stream("/v1/backup"), self._session.refuse)

    def cluster(self) -> dict[str, Any]:
        """The members as this replica sees them, and what is stable."""
        return self._run(operating.document(path("cluster")))

    def add_member(self, url: str) -> str | None:
        """Ask the replica at a URL to become a member; its name if it is one already."""
        return self._run(operating.add_member(url))

    def evict(self, replica: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Take a member out of the cluster; says what that changes and what is at stake."""
        return self._run(operating.evict(replica, dry_run=dry_run))

    def rejoin(self) -> str:
        """Take this replica, which was evicted, back into the cluster; its new incarnation."""
        return self._run(operating.rejoin())

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
        self._run(
            operating.put_fault(
                replica,
                drop=drop,
                direction=direction,
                latency_ms=latency_ms,
                jitter_ms=jitter_ms,
                loss=loss,
            )
        )

    def mend(self, replica: str) -> None:
        """Take the fault of a link away."""
        self._run(operating.mend(replica))
