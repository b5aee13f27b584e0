"""crdtdb: an always-writable multi-region database.

This package is the core: no socket, no task, no event loop. `Database` is its public door;
`crdtdb_server` puts it on the network and `crdtdb_client` talks to that.
"""

from crdtdb.database import Database
from crdtdb.errors import CrdtdbError, Problem

__all__ = ["CrdtdbError", "Database", "Problem", "__version__"]

__version__ = "0.1.0"
