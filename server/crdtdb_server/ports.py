"""Free ports, for replicas whose peers must be told of them before they listen."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from random import SystemRandom
from typing import Final

__all__ = ["free_ports"]

#: Below those that systems give to outgoing connections by themselves: one of those could be taken
#: between choice and use, or answer to its own caller.
_PORTS: Final = range(16_384, 32_768)
#: Somebody has it, or it is kept from us.
_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EACCES})
_luck: Final = SystemRandom()


def free_ports(count: int = 1, host: str = "127.0.0.1") -> list[int]:
    """So many different ports of this host on which nobody listens now. Raises OSError for a host
    that is not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found: list[int] = []
    with ExitStack() as held:  # until all are found, so that they differ
        while len(found) < count:
            probe = held.enter_context(socket.socket(family))
            port = _luck.choice(_PORTS)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
            else:
                found.append(port)
    return found
