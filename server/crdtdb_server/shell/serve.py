"""`crdtdb serve`: run a replica."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from crdtdb.errors import ADVICE, DamagedStore
from crdtdb_server.config import Settings

__all__ = ["check_together", "serve"]


def check_together(_kind: object, settings: Settings) -> None:
    """For cyclopts: settings that do not go together are wrong usage."""
    settings.check()


def serve(
    *,
    settings: Annotated[Settings, Parameter(name="*", validator=check_together)],
    config: Annotated[
        Path | None, Parameter(help='TOML file with these settings, such as data_dir = "/data".')
    ] = None,
) -> None:
    """Serve a replica until it is interrupted.

    Every setting is a flag, a key of the --config file (data_dir) and an environment variable
    (CRDTDB_DATA_DIR): the flag wins, then the environment, then the file.

    For example:

        crdtdb serve --data-dir data-eu --replica eu-1 --region eu
        crdtdb serve --data-dir data-us --replica us-1 --listen 127.0.0.1:7461 \\
            --peer http://127.0.0.1:7460
    """
    from crdtdb_server.serve import serve

    del config  # it has been read (crdtdb_server.config.SOURCES)
    _configure_logging()
    try:
        serve(settings)
    except DamagedStore as error:
        if ADVICE not in str(error):
            raise  # it is somebody else's directory
        lines = _ways_out(settings.data_dir, has_peers=bool(settings.peers))
        raise DamagedStore("\n".join((str(error), *lines))) from error


def _ways_out(data_dir: Path, *, has_peers: bool) -> list[str]:
    """The commands that make a replica of a directory that cannot be read, as they are typed.

    Nothing of the damaged one is touched.
    """
    again = shlex.join(["crdtdb", *sys.argv[1:]])
    aside = next(path for path in _asides(data_dir) if not path.exists())
    move = f"    mv {shlex.quote(str(data_dir))} {shlex.quote(str(aside))}"
    return [
        "  From its peers, which have all that it had sent them, under a new identity:",
        move,
        f"    {again}" if has_peers else f"    {again} --peer URL",
        "  Or from a backup of it, and from its peers what has happened since:",
        move,
        f"    crdtdb restore BACKUP --data-dir {shlex.quote(str(data_dir))}",
        f"    {again}",
    ]


def _asides(data_dir: Path) -> Iterator[Path]:
    """Where it may be moved to, on the same disk."""
    whole = data_dir.absolute()
    yield whole.with_name(f"{whole.name}.damaged")
    yield from (whole.with_name(f"{whole.name}.damaged-{number}") for number in count(2))


def _configure_logging() -> None:
    """For people on a terminal; elsewhere one JSON object a line."""
    import logging

    import structlog

    people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
            *([] if people else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
