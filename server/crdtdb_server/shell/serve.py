"""`crdtdb serve`: run a replica."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

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
    serve(settings)


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
