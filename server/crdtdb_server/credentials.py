"""Bearer tokens: who holds which.

A token file has one token a line, `sha256:HEX NAME read|write|admin [bucket,…]`; `#` begins a
comment. It holds hashes only, so whoever reads it cannot speak for anybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from crdtdb import address
from crdtdb.errors import BadRequest, Field, StartError, Unauthorized
from crdtdb_server.access import Access, Principal

__all__ = ["CHALLENGE", "Keyring"]

#: What an answer 401 says to send (RFC 9110, section 11.6.1).
CHALLENGE: Final = ("WWW-Authenticate", 'Bearer realm="crdtdb"')

_LINE: Final = re.compile(
    r"sha256:(?P<hash>[0-9A-Fa-f]{64})\s+(?P<name>[A-Za-z0-9][A-Za-z0-9._@-]{0,62})"
    r"\s+(?P<scope>read|write|admin)(?:\s+(?P<buckets>\S+))?"
)
_BEARER: Final = re.compile(r"Bearer +(?P<token>[!-~]+)", re.IGNORECASE)


class Keyring:
    """The tokens that a server knows, by their hashes."""

    def __init__(self, principals: Mapping[bytes, Principal]) -> None:
        """`principals` by the SHA-256 of their tokens."""
        self._principals = dict(principals)

    @classmethod
    def read(cls, file: Path) -> Keyring:
        """Read a token file. Raises StartError, which names the line but none of its hash."""
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"cannot read the token file {file}: {error}") from error
        principals: dict[bytes, Principal] = {}
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            try:
                token_hash, principal = _parsed(text)
                if token_hash in principals:
                    raise ValueError(f"it repeats the token of {principals[token_hash].name!r}")
            except ValueError as error:
                raise StartError(f"{file}, line {number}: {error}") from None
            principals[token_hash] = principal
        if not principals:
            raise StartError(f"the token file {file} holds no token, so nobody could ask anything")
        return cls(principals)

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


def _parsed(text: str) -> tuple[bytes, Principal]:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError("not `sha256:HEX NAME read|write|admin [bucket,…]`")
    buckets = None if match["buckets"] is None else frozenset(match["buckets"].split(","))
    for bucket in buckets or ():
        try:
            address.check_bucket(bucket)
        except BadRequest as error:
            raise ValueError(error.detail) from None
    principal = Principal(match["name"], Access(match["scope"]), buckets)
    return bytes.fromhex(match["hash"]), principal
