"""The file of bearer tokens: one a line, `sha256:HEX NAME read|write|admin [bucket,…]`.

`#` begins a comment. The file holds hashes only, so whoever reads it cannot speak for anybody. It
is changed by replacing it in one step, and lines that do not change stay as they were written.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from stat import S_IMODE
from typing import Final, NamedTuple

from crdtdb import address
from crdtdb.errors import BadRequest, CrdtdbError, StartError
from crdtdb.store.disk import sync_names
from crdtdb_server.access import Access, Principal

__all__ = ["Entry", "TokenProblem", "add_token", "check_name", "read_entries", "revoke_tokens"]

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}"
_LINE: Final = re.compile(
    rf"sha256:(?P<hash>[0-9A-Fa-f]{{64}})\s+(?P<name>{_NAME})"
    r"\s+(?P<scope>read|write|admin)(?:\s+(?P<buckets>\S+))?"
)
#: Of randomness in a new token.
_TOKEN_BYTES: Final = 32


class TokenProblem(CrdtdbError):
    """A token cannot be created or revoked. The file is as it was."""


class Entry(NamedTuple):
    """A token that may ask."""

    hash: bytes
    principal: Principal
    #: Where it stands, from 1 on.
    line: int


def read_entries(file: Path) -> list[Entry]:
    """What a token file says. Raises StartError, which names the line but none of its hash."""
    return _entries(file, _lines(file))


def check_name(name: str) -> None:
    """Raises ValueError for what cannot be the name of a token."""
    if not re.fullmatch(_NAME, name):
        raise ValueError(
            f"{name!r} is no name of a token: use 1 to 63 of A-Z a-z 0-9 . _ @ - "
            "and begin with a letter or a digit"
        )


def add_token(file: Path, principal: Principal) -> str:
    """Let one more caller ask; the file is made if it is not there. Gives the secret, kept nowhere.

    Raises TokenProblem or StartError, with the file as it was.
    """
    secret = secrets.token_urlsafe(_TOKEN_BYTES)
    with _changing(file):
        lines = _lines(file) if file.exists() else []
        if any(entry.principal.name == principal.name for entry in _entries(file, lines)):
            raise TokenProblem(
                f"{file} has a token {principal.name!r} already; revoke it first, "
                "or take another name"
            )
        words = [
            f"sha256:{sha256(secret.encode()).hexdigest()}",
            principal.name,
            principal.scope.value,
            *([] if principal.buckets is None else [",".join(sorted(principal.buckets))]),
        ]
        _replace(file, [*lines, " ".join(words)])
    return secret


def revoke_tokens(file: Path, name: str) -> int:
    """Take all tokens of a name out of the file; how many there were, one at least.

    Raises TokenProblem or StartError, with the file as it was.
    """
    with _changing(file):
        lines = _lines(file)
        gone = {entry.line for entry in _entries(file, lines) if entry.principal.name == name}
        if not gone:
            raise TokenProblem(f"{file} has no token {name!r}; see crdtdb token list")
        _replace(file, [line for number, line in enumerate(lines, 1) if number not in gone])
    return len(gone)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"cannot read the token file {file}: {error}") from error


def _entries(file: Path, lines: Sequence[str]) -> list[Entry]:
    entries: dict[bytes, Entry] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            token_hash, principal = _parsed(text)
            if (former := entries.get(token_hash)) is not None:
                raise ValueError(f"it repeats the token of {former.principal.name!r}")
        except ValueError as error:
            raise StartError(f"{file}, line {number}: {error}") from None
        entries[token_hash] = Entry(token_hash, principal, number)
    return list(entries.values())


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


@contextmanager
def _changing(file: Path) -> Iterator[None]:
    """One change at a time, by whatever process."""
    try:
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)
    except OSError as error:
        raise TokenProblem(f"cannot write the token file {file}: {error}") from error


def _replace(file: Path, lines: Sequence[str]) -> None:
    """Readable by whom it was, a server of another user above all; a new one by its owner alone.

    Raises OSError.
    """
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as whole:
            whole.writelines(f"{line}\n" for line in lines)
            with suppress(FileNotFoundError):
                former = file.stat()
                os.fchown(descriptor, former.st_uid, former.st_gid)
                os.fchmod(descriptor, S_IMODE(former.st_mode))
            whole.flush()
            os.fsync(descriptor)
        partial.replace(file)
        sync_names(file.parent)
    finally:
        partial.unlink(missing_ok=True)
