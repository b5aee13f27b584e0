"""What a type sees of an object while one operation on it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from crdtdb import address
from crdtdb.causal import Dot, VersionVector
from crdtdb.datatype import OperationType
from crdtdb.draft import Draft
from crdtdb.guarded import totals_of
from crdtdb.kinds import Log, in_force, type_of
from crdtdb.record import Live

__all__ = ["ObjectView", "Replicas"]

#: Gives the names of the members, and of this replica, by incarnation.
Replicas: TypeAlias = Callable[[], Mapping[int, str]]


class ObjectView:
    """An object as of a draft, and what the operation changes of it (`datatype.View`)."""

    __slots__ = (
        "_draft",
        "_is_guarded",
        "_is_whole",
        "_live",
        "_replicas",
        "prefix",
        "seen",
        "was_whole",
    )

    def __init__(
        self,
        draft: Draft,
        prefix: bytes,
        seen: VersionVector | None,
        replicas: Replicas,
        *,
        is_whole: bool = False,
    ) -> None:
        self._draft = draft
        self._replicas = replicas
        self.prefix = prefix
        #: Was all of an object that has deadlines looked at, to be removed?
        self.was_whole = False
        self._is_guarded = draft.is_guarded(prefix)
        self._is_whole = is_whole and self._is_guarded
        #: The read context of the operation.
        self.seen = seen
        #: What was looked at, by tail.
        self._live: dict[bytes, Live] = {}

    def live(self, tail: bytes) -> Live:
        if self._is_whole:
            return self.stored(tail)
        live = self._live.get(tail)
        if live is None:
            live = self._live[tail] = self._draft.live(self.prefix + tail, self.prefix)
        return live

    def stored(self, tail: bytes) -> Live:
        held = self.held(tail)
        return totals_of(held) if self._is_guarded else held

    def held(self, tail: bytes) -> Live:
        """All that stays there if an operation does not replace it.

        Where a cut depends on a deadline, also what is cut: if that was moved, it comes back.
        """
        if not self._is_guarded:
            return self.live(tail)
        return self._draft.record(self.prefix + tail).live

    def whole(self) -> ObjectView:
        self.was_whole = self._draft.head(self.prefix).timed
        if not self._is_guarded:
            return self
        return ObjectView(self._draft, self.prefix, self.seen, self._replicas, is_whole=True)

    def now_live(self, tail: bytes, live: Live) -> None:
        """The operation has changed what is in force there."""
        self._live[tail] = live

    def forget(self) -> None:
        """The operation has changed everything."""
        self._live.clear()

    def size(self) -> int:
        return self._draft.head(self.prefix).size

    def members(self, stem: bytes = address.MEMBER) -> Iterator[tuple[bytes, Live]]:
        cut, kind = self._draft.head(self.prefix).cut, type_of(self.prefix)
        for tail, live in self._draft.members(self.prefix, stem):
            standing = totals_of(live) if self._is_whole else in_force(kind, tail, live, cut)
            if standing:
                yield tail, standing

    def observed(self, live: Live) -> list[Dot]:
        seen = self.seen
        return list(live) if seen is None else [dot for dot in live if seen.covers(dot)]

    def folded(self, stem: bytes, kind: OperationType) -> Any:
        log = Log(self.prefix + stem, self.prefix, kind)
        if self._draft.in_force(log):
            return self._draft.folded(log.prefix, kind)
        if self._is_whole and any(r.live for _, r in self._draft.records_under(log.prefix)):
            return kind.empty()  # there is something, though nothing to be seen
        return None

    @property
    def has_context(self) -> bool:
        return self.seen is not None

    def replicas(self) -> Mapping[int, str]:
        return self._replicas()
