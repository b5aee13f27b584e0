"""Bearer tokens: who holds which, of those in the token file (`token_file`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from crdtdb.errors import Field, StartError, Unauthorized
from crdtdb_server.access import Principal
from crdtdb_server.token_file import Entry, read_entries

__all__ = ["CHALLENGE", "Keyring"]

#: What an answer 401 says to send (RFC 9110, section 11.6.1).
CHALLENGE: Final = ("WWW-Authenticate", 'Bearer realm="crdtdb"')

_BEARER: Final = re.compile(r"Bearer +(?P<token>[!-~]+)", re.IGNORECASE)


class Keyring:
    """The tokens that a server knows, by their hashes."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._principals = {entry.hash: entry.principal for entry in entries}

    @property
    def count(self) -> int:
        """How many tokens it knows."""
        return len(self._principals)

    @classmethod
    def read(cls, file: Path) -> Keyring:
        """Read a token file. Raises StartError, which names the line but none of its hash."""
        entries = read_entries(file)
        if not entries:
            raise StartError(
                f"the token file {file} holds no token, so nobody could ask anything; "
                "make one with crdtdb token create"
            )
        return cls(entries)

    def reread(self, file: Path) -> None:
        """From now on, who may ask is who stands there now; be that nobody.

        Raises StartError, and everything stays as it is.
        """
        self._principals = {entry.hash: entry.principal for entry in read_entries(file)}

    def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who sent these headers. Raises Unauthorized. O(1)."""
        given = headers.get("authorization")
        if given is None:
            raise Unauthorized(
                "this server asks for a token: send `Authorization: Bearer TOKEN`",
                Field("Authorization", "missing"),
            )
        match = _BEARER.fullmatch(given)
        # Looked up by its hash: how long that takes tells nothing of any token.
        found = match and self._principals.get(sha256(match["token"].encode()).digest())
        if not found:
            raise Unauthorized(
                "this server does not know that token; its operator has the token file",
                Field("Authorization", "not `Bearer` and a token of this server"),
            )
        return found
