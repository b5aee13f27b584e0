"""Replicas known by their certificates: who speaks is held to what its certificate names.

An authority may vouch for more machines than those of this cluster, so its signature alone says
little. The certificate must name the host of the URL under which the sender goes, and that host
must be one that a person has named (a peer of the settings, a member that an admin added) or that
of the sender's own entry among the members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from ssl import SSLObject
from typing import Any
from urllib.parse import urlsplit

from crdtdb.errors import shortened
from crdtdb.replication.members import Member
from crdtdb.replication.messages import Sender
from crdtdb_server.peers.secret import Unproven
from crdtdb_server.tls import Tls

__all__ = ["Certified"]


class Certified:
    """Whom the certificates of callers make them."""

    def __init__(self, tls: Tls, peers: Iterable[str]) -> None:
        """`peers`: the URLs of the settings."""
        self._tls = tls
        self._named = set(map(_host, peers))

    def name(self, endpoint: str) -> None:
        """An admin wants the replica at this URL to be a member."""
        self._named.add(_host(endpoint))

    def check_call(self, endpoint: str) -> None:
        """May this replica call there, and believe who answers? Raises Unproven."""
        if urlsplit(endpoint).scheme != "https":
            raise Unproven("replicas here know each other by certificates: its URL must be https")

    def check(
        self, sender: Sender, connection: SSLObject | None, members: Mapping[int, Member]
    ) -> None:
        """Is the caller at this connection who it says? O(members) at most. Raises Unproven."""
        names = _names(connection)
        if connection is None or not names:
            raise Unproven(
                "it showed no certificate; start it with --tls-cert, --tls-key and --tls-ca, "
                "and without --cluster-secret-file"
            )
        if not self._tls.is_believed(connection):
            raise Unproven("who is believed here has changed since it connected; connect again")
        host = _host(sender.endpoint)
        if not host:
            raise Unproven("it does not say under which URL it is reached; give it --advertise")
        if host not in names:
            shown = ", ".join(map(shortened, sorted(names)))
            raise Unproven(
                f"its certificate names {shown}, not {shortened(host)}; "
                "give it one for the host of its URL, or an --advertise that its certificate names"
            )
        if host in self._named or host in _hosts(sender, members):
            return
        raise Unproven(
            f"{shortened(host)} is neither a peer of the settings here nor the member it says; "
            f"an admin can add it: crdtdb cluster add {shortened(sender.endpoint)}"
        )


def _hosts(sender: Sender, members: Mapping[int, Member]) -> set[str]:
    """The hosts at which the members say that the sender is; any of them, if it is a new one."""
    entry = members.get(sender.incarnation)
    return {_host(member.endpoint) for member in ([entry] if entry else members.values())}


def _names(connection: SSLObject | None) -> frozenset[str]:
    """The hosts that the certificate shown on a connection is for; wildcards are none."""
    certificate: Mapping[str, Any] | None = connection.getpeercert() if connection else None
    alternatives = (certificate or {}).get("subjectAltName", ())
    return frozenset(
        _canonical(name) for kind, name, *_ in alternatives if kind in ("DNS", "IP Address")
    )


def _host(endpoint: str) -> str:
    try:
        return _canonical(urlsplit(endpoint).hostname or "")
    except ValueError:
        return ""


def _canonical(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host.lower()
