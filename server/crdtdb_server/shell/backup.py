"""`crdtdb backup | restore`: everything a replica stores, in a directory, and back."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter, Token
from msgspec.structs import asdict

from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import note, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["backup", "restore"]

_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_RATE: Final = re.compile(r"(?P<number>[0-9]{1,12})(?P<unit>[kMG]?)")


def _read_rate(_kind: object, tokens: Sequence[Token]) -> int:
    match = _RATE.fullmatch(tokens[0].value)
    rate = int(match["number"]) * _UNITS[match["unit"]] if match else 0
    if not rate:
        raise ValueError(
            f"{tokens[0].value!r} is no rate: give bytes a second, such as 500k, 20M or 1G"
        )
    return rate


def backup(
    directory: Annotated[
        Path, Parameter(name="DIR", help="A new directory, or an empty one, for this backup.")
    ],
    /,
    *,
    rate: Annotated[
        int | None,
        Parameter(
            converter=_read_rate, n_tokens=1, help="At most so many bytes a second, such as 20M."
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Copy everything a replica stores while it goes on serving (needs a token for admin).

    The backup is of one state, the one when it ends, with a manifest that tells damage. What
    breaks off leaves nothing.

    For example:

        crdtdb backup backup-monday
        crdtdb backup /mnt/backups/monday --rate 20M --url http://eu:7460
    """
    from crdtdb.backup import save

    with server.client() as client, _progress("backup") as progress:
        parts = client.backup()
        manifest = save(
            directory,
            parts if rate is None else _throttled(parts, rate),
            taken_at_ms=time.time_ns() // 1_000_000,
            progress=progress,
        )
    if json:
        print_json(asdict(manifest))
    else:
        print(f"{manifest.rows} rows of {printable(manifest.replica)}, {manifest.size_bytes} bytes")


def restore(
    directory: Annotated[Path, Parameter(name="DIR", help="The backup.")],
    /,
    *,
    data_dir: Annotated[
        Path,
        Parameter(env_var="CRDTDB_DATA_DIR", help="A new or empty directory, for a replica."),
    ],
    json: AsJson = False,
) -> None:
    """Make a data directory from a backup, for `crdtdb serve`.

    The backup is checked first; a damaged or incomplete one is refused and nothing is written. The
    replica takes a new identity when it starts. With peers configured, it takes from them what has
    happened since; what they have deleted does not come back.

    For example:

        crdtdb restore backup-monday --data-dir data
        crdtdb serve --data-dir data --peer http://us:7460
    """
    from crdtdb.backup import restore as make

    with _progress("restore") as progress:
        manifest = make(directory, data_dir, progress)
    if json:
        print_json(asdict(manifest))
        return
    print(f"{manifest.rows} rows of {printable(manifest.replica)} are in {data_dir}")
    note(f"(start it: crdtdb serve --data-dir {data_dir} --cluster {manifest.cluster})")


def _throttled(parts: Iterable[bytes], bytes_per_s: int) -> Iterator[bytes]:
    """The same parts, no faster: the server waits for whoever does not take them."""
    began, taken = time.monotonic(), 0
    for part in parts:
        yield part
        taken += len(part)
        ahead_s = taken / bytes_per_s - (time.monotonic() - began)
        if ahead_s > 0:
            time.sleep(ahead_s)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar for whoever looks at a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("rows"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda rows, total: progress.update(task, completed=rows, total=max(rows, total))
