"""Answers that are kept: to the same request about an object that has not changed since.

Much is read again and again. An answer holds as long as the object's last change is the one that it
was at that time, as its ETag says to clients. So a request that comes again, byte for byte, is
neither parsed nor read once more: one look at the object's head shows whether the answer still
stands. What an answer says of the replica and of the moment is made anew each time, and so is the
decision whether whoever asks may ask.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, NamedTuple

from crdtdb.causal import VersionVector
from crdtdb_server.access import Principal
from crdtdb_server.exchange import FixedHeaders

__all__ = ["Kept", "KeptAnswers"]

#: Of all requests and answers that are kept, about.
KEPT_BYTES: Final = 32 * 1_048_576
#: What an entry takes besides the bytes of its request and its answer, about.
_ENTRY_BYTES: Final = 1_000
#: So many meetings are remembered at most.
_MET: Final = 2**17


class Kept(NamedTuple):
    """An answer, to which request of whom it was, and while what state of an object it is right."""

    #: Of the request, and its header fields.
    request_bytes: int
    headers: Mapping[str, str]
    #: The path of the route that it took, whose request it was, and what its tokens name.
    route: str
    principal: Principal
    carried: VersionVector
    #: The object, and the row of its head.
    prefix: bytes
    head_row: bytes
    #: The answer, with its header fields that are the same each time.
    status: int
    fixed: FixedHeaders
    body: bytes


class KeptAnswers:
    """What was answered lately, by all that a request consists of. Bounded.

    What was read once need not be read again, so an answer is kept when the same state of an object
    is asked for twice.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._half_bytes = kept_bytes // 2
        #: Used since the last turn …
        self._newer: dict[Hashable, Kept] = {}
        #: … and not used since then. At the next turn, they go.
        self._older: dict[Hashable, Kept] = {}
        self._newer_bytes = 0
        #: Hashes of requests that came once or more, each with the place of the state they met.
        self._met: set[int] = set()

    def find(self, key: Hashable) -> Kept | None:
        """What answers a request again, if that is known."""
        kept = self._newer.get(key)
        if kept is None and (kept := self._older.pop(key, None)) is not None:
            self.keep(key, kept)
        return kept

    def meet(self, key: Hashable, sequence: int) -> bool:
        """Take note of a request that met a state of an object. Had it met that before?"""
        met, number = self._met, hash((key, sequence))
        if number in met:
            return True
        if len(met) == _MET:
            met.clear()
        met.add(number)
        return False

    def keep(self, key: Hashable, kept: Kept) -> None:
        """Keep what answers a request, in place of what did so before."""
        entry_bytes = kept.request_bytes + len(kept.body) + _ENTRY_BYTES
        if self._newer_bytes + entry_bytes > self._half_bytes:
            self._newer, self._older = {}, self._newer
            self._newer_bytes = 0
        self._newer_bytes += entry_bytes
        # orjson's own bytes hold on to a buffer of 4 KiB.
        self._newer[key] = kept._replace(body=bytes(memoryview(kept.body)))
