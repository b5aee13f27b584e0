"""`crdtdb export | import`: data as lines of JSON, as much as there is, in constant memory."""

from __future__ import annotations

import json as text
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TypeAlias

import httpx2
from cyclopts import Parameter

from crdtdb.errors import CrdtdbError, Unavailable
from crdtdb_client import UnexpectedAnswer, Unreachable
from crdtdb_client.errors import problem_from
from crdtdb_client.transport import failed
from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import note, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["export", "import_"]

_NDJSON: Final = "application/x-ndjson"
_CHUNK_BYTES: Final = 256 * 1024

#: Told how many bytes more have gone through.
_Advance: TypeAlias = Callable[[int], None]


class TransferStopped(CrdtdbError):
    """An export or import that broke off, or could not begin for its file."""


def export(
    file: Annotated[Path, Parameter(help="Where to write the lines. It is replaced when whole.")],
    /,
    *,
    bucket: Annotated[str | None, Parameter(help="Only this bucket.")] = None,
    prefix: Annotated[str | None, Parameter(help="Only keys that begin so.")] = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Write what there is to a file, an object a line, for `crdtdb import`.

    For example:

        crdtdb export all.jsonl
        crdtdb export carts.jsonl --bucket shop --prefix cart:
    """
    given = {"bucket": bucket, "prefix": prefix}
    query = {name: value for name, value in given.items() if value is not None}
    lines = 0
    with (
        _asking(server) as http,
        http.stream("GET", "/v1/export", params=query) as response,
    ):
        if not _is_ours(response) or response.status_code != 200:
            response.read()
            raise _refusal(response)
        with _replaced(file) as whole, _progress("export", None) as advance:
            for part in response.iter_bytes():
                whole.write(part)
                lines += part.count(b"\n")
                advance(len(part))
    if json:
        print_json({"lines": lines})
    else:
        print(_lines(lines))


def import_(
    file: Annotated[Path, Parameter(help="Lines of JSON: bucket, type, key and value.")],
    /,
    *,
    key: Annotated[
        str | None,
        Parameter(help="The key that an import which stopped had: what it wrote counts once."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> int:
    """Write the values in a file, as `crdtdb export` makes it, on top of what is there.

    Counters count on, sets grow, registers are set anew. Lines that are wrong are reported by
    their numbers and the others go on; then the exit code is 1.

    For example:

        crdtdb import all.jsonl
    """
    key = key or secrets.token_urlsafe()
    try:
        summary = _import(file, key, server)
    except OSError as error:
        raise _unusable(file, error) from error
    except (TransferStopped, Unavailable):
        note(f"(to go on, repeat it with --key {key})")
        raise
    if json:
        print_json(summary)
    else:
        _print_summary(summary)
    return 1 if summary["failed"] else 0


def _import(file: Path, key: str, server: Server) -> dict[str, Any]:
    headers = {"Content-Type": _NDJSON, "Idempotency-Key": key}
    with file.open("rb") as lines, _asking(server) as http:
        size = os.fstat(lines.fileno()).st_size
        with _progress("import", size) as advance:
            body = _parts(lines, advance)
            response = http.post("/v1/import", content=body, headers=headers)
    if not _is_ours(response) or response.status_code != 200:
        raise _refusal(response)
    summary: dict[str, Any] = text.loads(response.content)
    return summary


def _parts(lines: BinaryIO, advance: _Advance) -> Iterator[bytes]:
    while part := lines.read(_CHUNK_BYTES):
        yield part
        advance(len(part))


def _print_summary(summary: dict[str, Any]) -> None:
    for wrong in summary["errors"]:
        line = f"line {wrong['line']}: {wrong['code']}: {wrong['detail']}"
        print(printable(line), file=sys.stderr)
    untold = summary["failed"] - len(summary["errors"])
    if untold:
        note(f"({untold} more wrong lines)")
    written = sum(summary["written"].values())
    parts = [f"{written} written", f"{summary['failed']} wrong"]
    if summary["repeated"]:
        parts.insert(1, f"{summary['repeated']} written before")
    print(f"{_lines(summary['lines'])}: {', '.join(parts)}")


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


# -- HTTP -----------------------------------------------------------------------------------------


@contextmanager
def _asking(server: Server) -> Iterator[httpx2.Client]:
    """Connections to the server; what goes wrong on them is an error of crdtdb."""
    try:
        with server.http() as http:
            yield http
    except httpx2.RequestError as error:
        reason, sent = failed(error)
        if sent:
            raise TransferStopped(f"{server.url} broke off: {reason}") from error
        raise Unreachable([(server.url, reason)]) from error


def _is_ours(response: httpx2.Response) -> bool:
    return "Crdtdb-Replica" in response.headers


def _refusal(response: httpx2.Response) -> CrdtdbError:
    if not _is_ours(response) or not response.headers["Content-Type"].endswith("problem+json"):
        return UnexpectedAnswer(str(response.url), response.status_code, response.text)
    return problem_from(text.loads(response.content), response.headers.get("Retry-After"))


# -- the file and the screen ----------------------------------------------------------------------


@contextmanager
def _replaced(file: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name when it is whole; else nothing stays of it."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("wb") as whole:
            yield whole
        partial.replace(file)
    except OSError as error:
        raise _unusable(file, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _unusable(file: Path, error: OSError) -> TransferStopped:
    return TransferStopped(f"cannot use {str(file)!r}: {error.strerror}")


@contextmanager
def _progress(what: str, total_bytes: int | None) -> Iterator[_Advance]:
    """A progress bar for whoever looks at a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total_bytes)
        yield lambda size: progress.advance(task, size)
