"""Reading a commit history: one JSON object a line, as it is or gzipped.

    {"t": 1237714200, "who": 1, "region": "emea", "files": [["src/main.c", 285, 3], …]}

`t` is the Unix time in seconds, `who` a number or a name, `region` where the commit was made,
`files` the paths with the lines added and removed. Further fields and empty lines are left alone.
The whole file is read and checked before anything is written anywhere.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from crdtdb import address
from crdtdb.errors import BadRequest, CrdtdbError
from crdtdb.limits import LIMITS

__all__ = ["BadTrace", "Changed", "Commit", "Trace", "read_trace"]

#: Regions of the demo, and those it falls back on when the file has fewer.
REGIONS: Final = 3
_SPARE_REGIONS: Final = ("eu", "us", "ap")
_GZIP: Final = b"\x1f\x8b"

_Lines = Annotated[int, Meta(ge=0, le=LIMITS.step)]
_Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}\Z")]
_Who = Annotated[str, Meta(min_length=1, max_length=200)]


class BadTrace(CrdtdbError):
    """The file is not a commit history."""


class Changed(NamedTuple):
    """What a commit did to one file."""

    path: str
    added: _Lines
    removed: _Lines


class Commit(msgspec.Struct, frozen=True):
    """One commit of the history."""

    t: int
    who: int | _Who
    region: _Label
    files: list[Changed]

    @property
    def added(self) -> int:
        return sum(changed.added for changed in self.files)

    @property
    def removed(self) -> int:
        return sum(changed.removed for changed in self.files)


class Trace(NamedTuple):
    """A whole history, and the three regions to replay it in."""

    commits: list[Commit]
    regions: tuple[str, ...]


_decode = msgspec.json.Decoder(Commit).decode


def read_trace(file: Path) -> Trace:
    """Read a history. Raises BadTrace, which names the line."""
    try:
        with file.open("rb") as raw:
            start = raw.read(len(_GZIP))
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if start == _GZIP else raw as lines:
                commits = list(_commits(lines))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadTrace(f"{file} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise BadTrace(f"cannot read {file}: {error.strerror}") from error
    if not commits:
        raise BadTrace(f"{file} holds no commits")
    return Trace(commits, _regions(commits))


def _commits(lines: Iterable[bytes]) -> Iterator[Commit]:
    regions: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            commit = _decode(line)
            _check(commit)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise BadTrace(f"line {number} is no commit: {error}") from error
        regions.add(commit.region)
        if len(regions) > REGIONS:
            raise BadTrace(
                f"line {number} brings a fourth region, {commit.region!r}; "
                f"the demo has {REGIONS}: {', '.join(sorted(regions - {commit.region}))}"
            )
        yield commit


def _check(commit: Commit) -> None:
    """What the types alone do not say. Raises ValueError."""
    if not commit.files:
        raise ValueError("it changes no files")
    if max(commit.added, commit.removed) > LIMITS.step:
        raise ValueError(f"it changes more than {LIMITS.step} lines")
    for key in (str(commit.who), *(changed.path for changed in commit.files)):
        try:
            address.check_key(key)
        except BadRequest as error:
            raise ValueError(f"{key[:80]!r} {error.fields[0].message}") from None


def _regions(commits: list[Commit]) -> tuple[str, ...]:
    """The regions of the file, the busiest first, and others up to three."""
    named = [region for region, _ in Counter(commit.region for commit in commits).most_common()]
    spare = (region for region in _SPARE_REGIONS if region not in named)
    return (*named, *spare)[:REGIONS]
