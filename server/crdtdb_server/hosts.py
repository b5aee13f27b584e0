"""Which machine a request means: the defence against DNS rebinding.

A page in the operator's browser can point a name of its own at a loopback address and then speak
to a server there. It cannot choose the `Host` that the browser sends along, so that must be a name
this server is known by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from crdtdb.errors import BadHeader, BadHost, Field, shortened

__all__ = ["Hosts", "is_anywhere", "is_loopback"]

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
#: Where to listen when that is everywhere: no name, and a browser may be sent to it.
_ANYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - refused as a name
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/?#,\s]+)(:[0-9]{1,5})?", re.IGNORECASE)
_KEPT: Final = 256


def is_loopback(host: str) -> bool:
    """Is this a name of the machine itself, reachable from nowhere else?"""
    return host in _LOOPBACK


def is_anywhere(host: str) -> bool:
    """Does listening there mean at every address, so that it is none to give to others?"""
    return host in _ANYWHERE


class Hosts:
    """The names of a server; ports do not matter."""

    def __init__(self, listen: str, advertise: str | None, allowed: Iterable[str]) -> None:
        advertised = None if advertise is None else urlsplit(advertise).hostname
        names = {name.lower() for name in (*allowed, listen, advertised or listen)}
        self._names = _LOOPBACK | (names - _ANYWHERE)
        #: `Host` headers found good before.
        self._good: set[str] = set()

    def check(self, authority: str | None, headers: Mapping[str, str]) -> None:
        """Raises BadHost, or BadHeader when there is not exactly one host.

        An absolute target's authority stands in for the header (RFC 9112, section 3.2.2).
        """
        host = headers.get("host", "") if authority is None else authority
        if host in self._good:
            return
        match = _AUTHORITY.fullmatch(host)
        if match is None:
            raise BadHeader(
                "send exactly one Host header with one name", Field("Host", "missing or malformed")
            )
        name = match[1].strip("[]").lower()
        if name not in self._names:
            raise BadHost(
                f"this server does not go by {shortened(name)!r}; "
                "start it with --allow-host to make it so",
                Field("Host", "not a name of this server"),
            )
        if len(self._good) < _KEPT:
            self._good.add(host)
