"""By what replicas know each other: a secret, certificates, or nothing at all."""

from __future__ import annotations

from ssl import SSLContext
from typing import NamedTuple

from crdtdb_server.peers.certified import Certified
from crdtdb_server.peers.secret import Secrets
from crdtdb_server.tls import Tls

__all__ = ["Trust"]


class Trust(NamedTuple):
    """What every link and every route between replicas is held to. Its files may change."""

    secrets: Secrets | None = None
    certified: Certified | None = None
    tls: Tls | None = None

    @property
    def calling(self) -> SSLContext | None:
        """Whom to believe at https URLs; None: as is usual on this system."""
        return None if self.tls is None else self.tls.calling
