"""Who fails to say who they are, and how often: tokens and proofs that are not good, by address.

An address may fail so often in a minute. After that it is refused (429) whatever it brings, good or
not, until there is room again, so that nobody can guess any faster. Other addresses hear nothing of
it; nor do callers that were let in from the same address before, for it may be that of a proxy or
of a whole office. (Behind one, what limits guesses by their true origin is the proxy.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final, NamedTuple

from crdtdb.errors import Field, Overloaded

__all__ = ["A_REPLICA", "Caller", "Logins", "address_of", "together"]

#: Addresses whose failures are remembered, and callers that were let in: of more, the oldest go.
REMEMBERED: Final = 16_384
#: An IPv6 client has so many bits of address to itself.
_OWN_BITS: Final = 64


#: The claim of one that is no token's.
A_REPLICA: Final = None


class Caller(NamedTuple):
    """Somebody who was, or wants to be, let in."""

    address: str
    #: The name of a token, or A_REPLICA.
    claim: str | None


def address_of(connection: asyncio.BaseTransport) -> str:
    """Where the other end of a connection is: its address, or of IPv6 its network."""
    peer = connection.get_extra_info("peername")
    return together(peer[0]) if peer else ""


@lru_cache(4_096)
def together(host: str) -> str:
    """Whose failures count together with those of a host."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    network = int(address) >> _OWN_BITS << _OWN_BITS
    return f"{IPv6Address(network)}/{128 - _OWN_BITS}"


class Logins:
    """How often each address may still fail."""

    def __init__(self, failures_per_min: int) -> None:
        """0: any number."""
        self._per_min = failures_per_min
        #: Failures left, as of when. What has all of them left need not be there.
        self._left: dict[str, tuple[float, float]] = {}
        #: Who was let in; the values mean nothing.
        self._known: dict[Caller, None] = {}
        #: How many were refused, by reason.
        self.refused: Counter[str] = Counter()

    def check(self, caller: Caller, now_s: float) -> None:
        """Raises Overloaded if so many failed from there that this one is not looked at. O(1)."""
        if caller.address in self._left and caller not in self._known:
            left = self._at(caller.address, now_s)
            if left < 1:
                raise self._limited(left)

    def admit(self, caller: Caller, now_s: float) -> None:
        """Somebody proved to be who they say. Raises Overloaded, as `check` does. O(1)."""
        if caller in self._known:
            return
        self.check(caller, now_s)
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[caller] = None

    def fail(self, address: str, reason: str, now_s: float) -> None:
        """Somebody there is not who they say. Raises Overloaded if they said so too often. O(1)."""
        if self._per_min:
            left = self._at(address, now_s)
            if left < 1:
                raise self._limited(left)
            # The one that failed last is forgotten last.
            self._left.pop(address, None)
            if len(self._left) >= REMEMBERED:
                del self._left[next(iter(self._left))]
            self._left[address] = (left - 1, now_s)
        self.refused[reason] += 1

    def _at(self, address: str, now_s: float) -> float:
        left, then_s = self._left.get(address, (float(self._per_min), now_s))
        return min(float(self._per_min), left + (now_s - then_s) * self._per_min / 60)

    def _limited(self, left: float) -> Overloaded:
        self.refused["limited"] += 1
        return Overloaded(
            f"from your address more than {self._per_min} logins in a minute failed, by a token or "
            "a proof that this server does not know; mend that, and come again later",
            Field("", "too many failed logins", self._per_min),
            retry_after_s=ceil((1 - left) * 60 / self._per_min),
        )
