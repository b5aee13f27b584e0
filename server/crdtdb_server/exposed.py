"""Files by which callers and replicas are believed, and who else on the machine reaches them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from crdtdb_server.config import Settings

__all__ = ["Exposed", "exposed_files"]

_READ: Final = stat.S_IROTH
_CHANGE: Final = stat.S_IWOTH


class Exposed(NamedTuple):
    """A file of which every user of the machine can do too much."""

    file: Path
    #: `read` or `change`.
    what: str


def exposed_files(settings: Settings) -> Iterator[Exposed]:
    """Secrets that everybody can read, and what everybody can change.

    A token file holds hashes only, and certificates are public: whoever reads them learns nothing.
    """
    secret = (settings.cluster_secret_file, settings.tls_key)
    public = (settings.token_file, settings.tls_cert, settings.tls_ca)
    for file in (*secret, *public):
        if file is None:
            continue
        mode = file.stat().st_mode
        if mode & _CHANGE:
            yield Exposed(file, "change")
        elif mode & _READ and file in secret:
            yield Exposed(file, "read")
