"""Idempotency keys: a request that is sent twice is carried out once.

The answer is kept in the same store transaction as the write, so a key outlives a crash exactly
when its write does. Kept by the replica that got the request, and nowhere else, for 24 hours.

Two META rows per key: the answer under the key, and the key under the time it may be forgotten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.errors import Field, IdempotencyMismatch, StorageFailed
from crdtdb.store.base import Snapshot, Table
from crdtdb.transaction import IdempotencyKey, Result

__all__ = ["KEPT_MS", "KEY_CHARACTERS", "KEY_TEXT", "KeptAnswers", "Replay"]

#: How long an answer is kept.
KEPT_MS: Final = 24 * 3_600_000
#: What callers may take for a key.
KEY_CHARACTERS: Final = 128
KEY_TEXT: Final = re.compile(rf"[!-~]{{1,{KEY_CHARACTERS}}}")
_ANSWERS: Final = b"idempotency/answer/"
_TIMES: Final = b"idempotency/time/"
#: Expired keys forgotten for each new one.
_FORGOTTEN: Final = 4
_VERSION: Final = 1
#: A clock may show anything; what is kept has 8 bytes for it.
_LATEST_MS: Final = 1 << 62


class _Row(msgspec.Struct, array_like=True):
    request: int
    until_ms: int
    seen: list[int]
    #: changed, value as JSON text, size: one per update.
    results: list[tuple[bool, str, int | None]]


_decoder = msgspec.msgpack.Decoder(_Row)


class Replay(NamedTuple):
    """The answer that a key got the first time."""

    results: tuple[Result, ...]
    seen: VersionVector


class KeptAnswers:
    """The answers kept in a snapshot, and those of the commit under way."""

    def __init__(self, snapshot: Snapshot, now_ms: int) -> None:
        self._snapshot = snapshot
        self._now_ms = min(max(now_ms, 0), _LATEST_MS)
        self._rows: dict[bytes, bytes | None] = {}

    def replay(self, key: IdempotencyKey) -> Replay | None:
        """The first answer, if the key is known.

        Raises IdempotencyMismatch for another request, StorageFailed for a damaged answer.
        """
        at = _ANSWERS + key.text.encode()
        data = self._rows.get(at) or self._snapshot.get(Table.META, at)
        if data is None:
            return None
        try:
            row: _Row = codec.unpack_whole(_VERSION, data, _decoder)
        except codec.FormatError as error:
            raise StorageFailed(
                f"the answer to {key.text!r} is damaged on disk ({error})"
            ) from error
        if row.until_ms <= self._now_ms:
            return None
        if row.request != key.request:
            raise IdempotencyMismatch(
                "this Idempotency-Key came with another request before; use a new key",
                Field("Idempotency-Key", "used for another request"),
            )
        results = tuple(
            Result(changed, json.loads(value), size) for changed, value, size in row.results
        )
        return Replay(results, VersionVector.from_flat(row.seen))

    def keep(self, key: IdempotencyKey, results: Sequence[Result], seen: VersionVector) -> None:
        """Keep an answer with the commit under way."""
        until_ms = self._now_ms + KEPT_MS
        row = (
            key.request,
            until_ms,
            seen.flat_above(),  # as a session token, which is what becomes of it
            [(one.changed, json.dumps(one.value), one.size) for one in results]
            if key.keeps_results
            else [],
        )
        text = key.text.encode()
        self._rows[_ANSWERS + text] = codec.pack_whole(_VERSION, row)
        self._rows[_TIMES + until_ms.to_bytes(8, "big") + text] = b""

    def rows(self) -> dict[bytes, bytes | None]:
        """META rows to write: answers to keep, and a few that may be forgotten."""
        if self._rows:
            due = _TIMES + self._now_ms.to_bytes(8, "big")
            room = _FORGOTTEN * (len(self._rows) // 2)
            for at, _ in islice(self._snapshot.scan(Table.META, _TIMES, due), room):
                answer = _ANSWERS + at[len(_TIMES) + 8 :]
                if not self._is_newer(answer, at):
                    self._rows.setdefault(answer, None)
                self._rows[at] = None
        return self._rows

    def _is_newer(self, answer: bytes, at: bytes) -> bool:
        """Was the key taken again, after the time that the row at `at` is about?"""
        data = self._snapshot.get(Table.META, answer)
        if data is None:
            return False
        try:
            row: _Row = codec.unpack_whole(_VERSION, data, _decoder)
        except codec.FormatError:
            return True  # whoever asks for it is told
        return row.until_ms > int.from_bytes(at[len(_TIMES) :][:8], "big")
