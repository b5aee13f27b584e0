"""`crdtdb export | import`: data as lines of JSON, as much as there is, in constant memory."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeAlias

from cyclopts import Parameter

from crdtdb.answers import Imported
from crdtdb.errors import CrdtdbError, Unavailable
from crdtdb_client import OutcomeUnknown, Unreachable
from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import note, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["export", "import_"]

#: As a file: the standard output, or input.
_STANDARD: Final = Path("-")
#: Told how many bytes more have gone through.
_Advance: TypeAlias = Callable[[int], None]


class UnusableFile(CrdtdbError):
    """A file that cannot be read or written."""


def export(
    file: Annotated[
        Path,
        Parameter(
            help="Where to write the lines, replaced when whole; - for the output.",
            allow_leading_hyphen=True,
        ),
    ],
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
        crdtdb export - | gzip > all.jsonl.gz
    """
    count = 0
    with server.client() as client:
        lines = client.export(bucket, prefix or "")
        # What cannot be exported must not even make a file.
        first = next(lines, b"")
        with _replaced(file) as whole, _progress("export", None) as advance:
            for line in chain((first,) if first else (), lines):
                whole.write(line)
                count += 1
                advance(len(line))
    if file == _STANDARD:
        note(_lines(count))
    elif json:
        print_json({"lines": count})
    else:
        print(_lines(count))


def import_(
    file: Annotated[
        Path,
        Parameter(
            help="Lines of JSON: bucket, type, key and value; - for the input.",
            allow_leading_hyphen=True,
        ),
    ],
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

    Counters count on, sets and sketches grow, registers are set anew. Lines that are wrong are
    reported by their numbers and the others go on; then the exit code is 1.

    For example:

        crdtdb import all.jsonl
        zcat all.jsonl.gz | crdtdb import -
    """
    key = key or secrets.token_urlsafe()
    try:
        done = _import(file, key, server)
    except OSError as error:
        raise _unusable(file, error) from error
    except (OutcomeUnknown, Unreachable, Unavailable):
        note(f"(to go on, repeat it with --key {key})")
        raise
    if json:
        print_json(asdict(done))
    else:
        _print_summary(done)
    return 1 if done.failed else 0


def _import(file: Path, key: str, server: Server) -> Imported:
    source = nullcontext(sys.stdin.buffer) if file == _STANDARD else file.open("rb")
    with source as lines, server.client() as client:
        size = None if file == _STANDARD else os.fstat(lines.fileno()).st_size
        with _progress("import", size) as advance:
            return client.import_(_told(lines, advance), key=key)


def _told(lines: BinaryIO, advance: _Advance) -> Iterator[bytes]:
    for line in lines:
        yield line
        advance(len(line))


def _print_summary(done: Imported) -> None:
    for wrong in done.errors:
        line = f"line {wrong.line}: {wrong.code}: {wrong.detail}"
        print(printable(line), file=sys.stderr)
    untold = done.failed - len(done.errors)
    if untold:
        note(f"({untold} more wrong lines)")
    parts = [f"{sum(done.written.values())} written", f"{done.failed} wrong"]
    if done.repeated:
        parts.insert(1, f"{done.repeated} written before")
    print(f"{_lines(done.lines)}: {', '.join(parts)}")


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


# -- the file and the screen ----------------------------------------------------------------------


@contextmanager
def _replaced(file: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name when it is whole; else nothing stays of it."""
    if file == _STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("wb") as whole:
            yield whole
        partial.replace(file)
    except OSError as error:
        raise _unusable(file, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _unusable(file: Path, error: OSError) -> UnusableFile:
    return UnusableFile(f"cannot use {str(file)!r}: {error.strerror}")


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
