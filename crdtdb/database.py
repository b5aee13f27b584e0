"""`Database`: one replica as an object; the public door of the core, also for embedding.

    >>> with Database.in_memory(replica="laptop") as db:    # or Database.open("data")
    ...     db.counter("shop", "views").increment(5).value
    5

It puts the engine, a store, a wall clock and randomness together: this is the only module of the
core that may look at either. A write has been fsynced when its method returns. Threads may share
a database; writes take turns.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec

from crdtdb import codec
from crdtdb.address import ObjectName
from crdtdb.answers import Enrolled, Event, Imported, Plain, Written
from crdtdb.causal import VersionVector
from crdtdb.changes import Scope
from crdtdb.engine import Engine, Entropy, WallClock
from crdtdb.errors import BadToken, Problem, StartError, joined
from crdtdb.following import Following
from crdtdb.importing import Import, Portions
from crdtdb.limits import LIMITS
from crdtdb.names import readable_name
from crdtdb.operations import check_name, read_operation, too_many
from crdtdb.query import check_is_document
from crdtdb.reads import Reads
from crdtdb.replication.members import read_members
from crdtdb.store.base import Store, Table
from crdtdb.store.memory import MemoryStore
from crdtdb.token import TokenKind, read_token
from crdtdb.transaction import Erase, Outcome, Result, Transaction, Update
from crdtdb.writes import Updates

__all__ = ["Collected", "Database", "summary"]

_NAME_ROW = b"replica"
_NAME_VERSION = 1
_name_decoder = msgspec.msgpack.Decoder(str)

#: Hands transactions to whoever carries them out, and gives a way to wait for what became of them.
Submit: TypeAlias = Callable[[Sequence[Transaction]], Callable[[], tuple[Outcome, ...] | None]]


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Database(Reads):
    """One replica of a cluster, open in this process."""

    def __init__(
        self,
        store: Store,
        *,
        replica: str | None = None,
        region: str | None = None,
        cluster: str = "crdtdb",
        clock: WallClock = _wall_clock_ms,
        entropy: Entropy = secrets.randbits,
    ) -> None:
        engine = Engine(store, clock, entropy)
        # Numbers of editors are others than before a restart, most likely.
        super().__init__(engine, cluster=cluster, clock=clock, editors=entropy(16))
        self.region = region
        self._writing = Lock()
        self._submit: Submit | None = None
        self._stop: Callable[[], None] | None = None
        self._following = Following(engine, cluster)
        self.replica = self._named(replica, entropy)
        engine.replicas = self._members

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        replica: str | None = None,
        region: str | None = None,
        cluster: str = "crdtdb",
    ) -> Self:
        """Open a replica in a directory, or begin one there.

        Raises DirectoryInUse, NewerFormat or DamagedStore, with the files as they were.
        """
        from crdtdb.store.logged import LoggedStore

        store = LoggedStore.open(Path(path))
        try:
            return cls(store, replica=replica, region=region, cluster=cluster)
        except BaseException:
            store.close()
            raise

    @classmethod
    def in_memory(cls, *, replica: str | None = None, cluster: str = "crdtdb") -> Self:
        """A replica that is gone when the process ends: for trying things and for tests."""
        return cls(MemoryStore(), replica=replica, cluster=cluster)

    def close(self) -> None:
        """End what serves it, end the iterators over changes, release the directory. Idempotent."""
        if self._stop is not None:
            self._stop()
        self._following.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _named(self, replica: str | None, entropy: Entropy) -> str:
        """The given name, else the one kept in the store, else a new readable one."""
        with self._store.snapshot() as snapshot:
            row = snapshot.get(Table.META, _NAME_ROW)
        kept = None if row is None else self._kept_name(row)
        if kept is not None and replica in (None, kept):
            return kept
        name = replica or readable_name(entropy)
        self._store.commit({Table.META: {_NAME_ROW: codec.pack_whole(_NAME_VERSION, name)}})
        return name

    def _kept_name(self, row: bytes) -> str | None:
        """The name in a row; if that is damaged, the one by which the others know this replica.

        Rows of the first stores are the name and nothing else.
        """
        try:
            if row[:1] >= b" ":
                return row.decode()
            name: str = codec.unpack_whole(_NAME_VERSION, row, _name_decoder)
        except ValueError:
            with self.reading() as reading:
                me = read_members(reading).get(self.engine.state.incarnation)
            return None if me is None else me.name or None
        return name

    # -- what goes on ---------------------------------------------------------------------------

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

        One event per changed record with its latest state; at least once, never a gap. It waits
        for more, until the database is closed; with `follow=False` it ends at the present.

            >>> db = Database.in_memory()
            >>> _ = db.set("shop", "cart:42").add("apple")
            >>> _ = db.counter("shop", "views").increment(3)
            >>> for event in db.changes("shop", include_value=True, follow=False):
            ...     print(event.name.key, event.member, event.value)
            cart:42 apple …
            views … 3
        """
        return self._following.events(
            Scope(bucket, type_name, key), since, include_value=include_value, follow=follow
        )

    def now(self) -> str:
        """The cursor of the present: what changes from here on comes after it.

        Unlike `since="now"` it stays the same moment, however often following is interrupted.
        """
        return self._following.present()

    # -- writing --------------------------------------------------------------------------------

    def commit(self, transactions: Sequence[Transaction]) -> tuple[Outcome, ...]:
        """Carry out transactions, in one durable commit; says what became of each."""
        while True:
            with self._writing:
                if self._submit is None:
                    return self.engine.commit(transactions).outcomes
                result = self._submit(transactions)
            outcomes = result()
            if outcomes is not None:
                return outcomes

    def enrol(self, name: ObjectName, since: bytes = b"") -> Enrolled:
        """What an editor needs to take part in a text here: a client id, and what it lacks."""
        check_name(name)
        check_is_document(name.type, "format")
        with self._writing:
            if self._submit is None and not self.engine.state.incarnation:
                self.engine.take_incarnation()
        with self.reading() as reading:
            return self.enrol_in(reading, name, since)

    def hand_over(self, submit: Submit, stop: Callable[[], None]) -> None:
        """Let a server, of which this database is now a part, carry out the commits.

        `submit` hands it transactions, and what that returns waits for what became of them: None if
        the server did not take them and has ended. `close` calls `stop` first. Raises StartError if
        another server has it.
        """
        with self._writing:
            if self._submit is not None:
                raise StartError("this database is being served already")
            self._submit, self._stop = submit, stop

    def take_back(self) -> None:
        """Carry out the commits here again."""
        with self._writing:
            self._submit = self._stop = None

    def update(self, name: ObjectName, operations: list[Plain]) -> Written:
        """Carry out operations on one object, all or none."""
        results = self._carry_out([self.parse_update(name, plain) for plain in operations])
        return summary(results)

    def parse_update(self, name: ObjectName, plain: Any, field: str = "") -> Update:
        """What a caller typed, checked. Raises problems that name the field (below `field`)."""
        check_name(name)
        operation = read_operation(name.type, plain, field)
        token: str | None = getattr(operation, "seen", None)
        if token is None:
            return Update(name, operation, None)
        try:
            return Update(name, operation, self.read_context(token))
        except BadToken as error:
            raise error.below(joined(field, "seen")) from error

    def read_context(self, token: str) -> VersionVector:
        """What a `seen` stands for. Raises BadToken."""
        return read_token(TokenKind.READ, self.cluster, token, self.engine.floors)

    @contextmanager
    def transaction(self) -> Iterator[Collected]:
        """Collect writes in the block; they take effect together when it ends without an error.

        Afterwards `results` says what each of them did.

            >>> db = Database.in_memory()
            >>> with db.transaction() as tx:
            ...     tx.counter("shop", "sold").increment()
            ...     tx.set("shop", "buyers").add("ann")
            >>> [written.changed for written in tx.results]
            [True, True]
        """
        collected = Collected(self.parse_update)
        yield collected
        if collected.updates:
            collected.results = [summary([result]) for result in self._carry_out(collected.updates)]

    def import_(
        self,
        lines: Iterable[bytes | str],
        *,
        key: str | None = None,
        progress: Callable[[Imported], object] | None = None,
    ) -> Imported:
        """Write the values of lines of JSON, as `export` gives them, as new operations.

        They add to what is there: counters count on, sets grow, registers are set anew. A thousand
        lines are a commit, after which `progress` is told how far it is. A wrong line is reported
        by its number and the others go on. Under a `key` (random text) each line is written once:
        an import that was stopped can be run again from the start, at this replica, for 24 hours.

            >>> with Database.in_memory() as here, Database.in_memory() as there:
            ...     _ = here.counter("shop", "views").increment(5)
            ...     there.import_(here.export()).written, there.counter("shop", "views").get().value
            ({'counter': 1}, 5)

        Raises, with how far it came, when this replica cannot write.
        """
        under_way = Import(key)
        portions = Portions()

        def commit() -> None:
            portion = under_way.read(portions.take())
            outcomes: tuple[Outcome, ...] = ()
            try:
                if portion.transactions:
                    outcomes = self.commit(portion.transactions)
            except Problem as error:
                raise under_way.stopped(error) from error
            under_way.settle(portion, outcomes)
            if progress is not None:
                progress(under_way.done)

        for line in lines:
            if portions.add(line):
                commit()
        commit()
        return under_way.done

    def erase(self, prefix: bytes) -> Result:
        """Remove every object below an address prefix (`crdtdb.address.bucket_prefix`, …)."""
        return self._carry_out([Erase(prefix)])[0]

    def _carry_out(self, updates: Sequence[Update | Erase]) -> tuple[Result, ...]:
        if len(updates) > LIMITS.transaction_operations:
            raise too_many(len(updates))
        (outcome,) = self.commit([Transaction(tuple(updates))])
        if outcome.error is not None:
            raise outcome.error
        return outcome.results


class Collected(Updates[None]):
    """The writes of a transaction that is still being put together."""

    def __init__(self, parse: Callable[[ObjectName, Plain], Update]) -> None:
        self._parse = parse
        self.updates: list[Update | Erase] = []
        #: What each of them did, in order, once the block has ended.
        self.results: list[Written] = []

    def _send(self, name: ObjectName, operations: list[Plain]) -> None:
        self.updates += [self._parse(name, plain) for plain in operations]


def summary(results: Sequence[Result]) -> Written:
    """What several operations on one object did, in one answer."""
    last = results[-1]
    return Written(any(result.changed for result in results), last.value, last.size)
