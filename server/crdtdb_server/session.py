"""Session tokens: what state may answer a request, and what an answer covers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final

from crdtdb.causal import NOTHING, VersionVector, format_incarnation
from crdtdb.errors import BadHeader, BadToken, Behind, Field
from crdtdb.token import TokenKind, read_token, write_token
from crdtdb_server.parameters import Header
from crdtdb_server.signals import Signal

__all__ = ["CONTEXT", "CONTEXT_HEADER", "PREFER", "Sessions", "wait_of"]

CONTEXT: Final = "Crdtdb-Context"
#: How long a request waits for this replica to catch up: when nothing is said, and at most.
WAIT_DEFAULT_S: Final = 1
WAIT_MAX_S: Final = 60
#: Tokens in one request, and replicas named in one problem.
_TOKENS: Final = 64
_NAMED: Final = 8

CONTEXT_HEADER: Final = Header(
    CONTEXT,
    "Session tokens, separated by commas: only a state that covers them may answer",
    {"format": "session-token"},
)
PREFER: Final = Header("Prefer", "`wait=N`: how many seconds (0 to 60) to wait for such a state")

_WAIT: Final = re.compile(r"wait\s*=\s*([^;]*)", re.IGNORECASE)


class Sessions:
    """Reads and writes the tokens of one replica, and lets requests wait for what they name."""

    def __init__(
        self, cluster: str, seen: Callable[[], VersionVector], is_partial: Callable[[], bool]
    ) -> None:
        self._cluster = cluster
        self._seen = seen
        self._is_partial = is_partial
        self._advance = Signal()
        #: Is the server stopping?
        self.closed = False
        #: What had been seen when those who wait were last woken.
        self._told = NOTHING
        #: Many answers cover the very same as the one before.
        self._latest = NOTHING
        self._latest_token = write_token(TokenKind.SESSION, cluster, NOTHING)

    def token(self, vector: VersionVector) -> str:
        """The token of a vector."""
        if vector is not self._latest:
            self._latest_token = write_token(TokenKind.SESSION, self._cluster, vector)
            self._latest = vector
        return self._latest_token

    def carried(self, headers: Mapping[str, str]) -> VersionVector:
        """What the tokens of a request name, joined. Raises BadToken."""
        value = headers.get("crdtdb-context")
        if value is None:
            return NOTHING
        texts = value.split(",")
        if len(texts) > _TOKENS:
            raise BadToken(
                f"{len(texts)} tokens; send at most {_TOKENS}",
                Field(CONTEXT, "too many tokens", _TOKENS),
            )
        vector = NOTHING
        for text in texts:
            try:
                vector = vector.join(read_token(TokenKind.SESSION, self._cluster, text.strip()))
            except BadToken as error:
                raise error.below(CONTEXT) from error
        return vector

    async def reach(self, vector: VersionVector, wait_s: int) -> None:
        """Wait until this replica has seen all of `vector`, and shows no part of more.

        Raises Behind.
        """
        try:
            async with asyncio.timeout(wait_s):
                while not self._seen().includes(vector) or self._is_partial():
                    await self.next_advance()
        except TimeoutError:
            raise self._behind(vector) from None

    def advanced(self) -> None:
        """This replica may have seen more than before. Wakes nobody if it has not."""
        seen = self._seen()
        if seen is self._told:
            return
        self._told = seen
        self._advance.give()

    def close(self) -> None:
        """The server stops: whoever follows what is seen should leave."""
        self.closed = True
        self._advance.give()

    async def next_advance(self) -> None:
        """Wait until this replica has seen more."""
        await self._advance.next()

    def _behind(self, vector: VersionVector) -> Behind:
        seen = self._seen()
        if seen.includes(vector):
            return Behind(
                "this replica is taking in much that it missed, in parts, and what it shows until "
                f"then is no one state; wait longer (Prefer: wait={WAIT_MAX_S}), ask another "
                f"replica, or ask without {CONTEXT}"
            )
        lacking = [
            Field(
                CONTEXT,
                f"operations {seen.get(incarnation) + 1} to {counter} of "
                f"{format_incarnation(incarnation)} are missing",
            )
            for incarnation, counter in sorted(vector.items())
            if counter > seen.get(incarnation)
        ]
        return Behind(
            f"this replica has yet to see {seen.missing(vector)} operations that the token names; "
            f"wait longer (Prefer: wait={WAIT_MAX_S}) or ask another replica",
            *lacking[:_NAMED],
        )


def wait_of(headers: Mapping[str, str]) -> int:
    """How many seconds a request is willing to wait. Raises BadHeader."""
    prefer = headers.get("prefer")
    if prefer is None:
        return WAIT_DEFAULT_S
    for preference in prefer.split(","):
        match = _WAIT.match(preference.strip())
        if match is None:
            continue
        text = match[1].strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= 4) or int(text) > WAIT_MAX_S:
            raise BadHeader(
                f"Prefer: wait takes whole seconds from 0 to {WAIT_MAX_S}",
                Field("Prefer", "wait is not a whole number in range", WAIT_MAX_S),
            )
        return int(text)
    return WAIT_DEFAULT_S
