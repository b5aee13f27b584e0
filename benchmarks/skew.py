"""Does it cost more when everybody writes to the same few objects?

The load of Retwis as in Enes et al. (ICDE 2019): who is followed, and who posts, is drawn by Zipf's
law. 15 % of the operations follow somebody, 35 % post (270 bytes, and its id, 31 bytes, in the
timeline of each follower), 50 % read and write nothing.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from random import Random
from typing import Final

from dissemination import formed
from figures import Figure, Round, at_most
from overlays import Overlay
from updates import update
from virtual_network import Replica, paged_bytes

__all__ = ["skew"]

_EXPONENTS: Final = (0.5, 1.5)
_BOUND: Final = at_most(1.1)
_FOLLOW, _POST = 0.15, 0.50
_ID_BYTES: Final = 31
_POST_BYTES: Final = 270
#: Followers whose timelines a post goes to at once: a transaction has so many operations.
_TIMELINES: Final = 900
_EVERY_MS: Final = 100
_CONVERGE_MS: Final = 60_000


def skew(overlay: Overlay, users: int, operations: int, seed: int) -> Iterator[Figure]:
    """Bytes per least byte, how far apart they are under little and under great skew.

    The least is what a page takes that holds what one commit changed, for each other replica: what
    its addresses begin with is said once. Of the records alone, which is what skew could change.
    And of all bodies: what is said beside the records is as much under either, but posts have more
    followers under great skew, so that it is little against more of them.
    """
    little, great = (
        _Retwis(overlay, users, exponent, seed).run(operations) for exponent in _EXPONENTS
    )
    ratios = {
        f"{name} at {exponent}": value
        for exponent, measured in zip(_EXPONENTS, (little, great), strict=True)
        for name, value in measured.items()
    }
    title = f"Retwis, {len(overlay.neighbours)} replicas, Zipf {_EXPONENTS[0]} and {_EXPONENTS[1]}"
    for counted in ("record bytes / least", "bytes / least"):
        low, high = sorted((little[counted], great[counted]))
        yield Figure(f"{title}: {counted}, apart", _BOUND, [Round(high / low, ratios)])


class _Retwis:
    """One run, with one skew."""

    def __init__(self, overlay: Overlay, users: int, exponent: float, seed: int) -> None:
        self._random = Random(f"{seed} Retwis {exponent}")
        self._network = formed(overlay, self._random)
        self._weights = list(accumulate(1 / rank**exponent for rank in range(1, users + 1)))
        #: Who follows whom, as everybody who posts knows it.
        self._followers: dict[int, set[int]] = defaultdict(set)
        #: The least bytes of the records that commits changed.
        self._written_bytes = 0

    def run(self, operations: int) -> dict[str, float]:
        """So many operations at each replica; all bodies against the least."""
        network, random = self._network, self._random
        for replica in network.replicas.values():
            first_ms = random.randrange(_EVERY_MS)
            for number in range(operations):
                network.after(first_ms + number * _EVERY_MS, partial(self._operate, replica))
        network.run_until(network.now_ms + operations * _EVERY_MS)
        network.run_while(lambda: not network.is_level, _CONVERGE_MS)
        least = self._written_bytes * (len(network.replicas) - 1)
        traffic = network.traffic
        return {
            "bytes / least": traffic.body_bytes / least,
            "record bytes / least": traffic.record_bytes / least,
            "MB": traffic.body_bytes / 1e6,
        }

    def _operate(self, replica: Replica) -> None:
        random = self._random
        chance = random.random()
        if chance < _FOLLOW:
            follower, followed = random.randrange(len(self._weights)), self._somebody()
            self._followers[followed].add(follower)
            self._write(replica, [("followers", followed, f"{follower}")])
        elif chance < _POST:
            author = self._somebody()
            post = random.randbytes(_ID_BYTES).hex()[:_ID_BYTES]
            text = random.randbytes(_POST_BYTES).hex()[:_POST_BYTES]
            timelines = sorted(self._followers[author])[:_TIMELINES]
            self._write(
                replica,
                [("wall", author, text), *(("timeline", reader, post) for reader in timelines)],
            )

    def _somebody(self) -> int:
        """A user, by Zipf's law."""
        return bisect(self._weights, self._random.random() * self._weights[-1])

    def _write(self, replica: Replica, adds: list[tuple[str, int, str]]) -> None:
        committed = replica.write(
            *(update("set", f"{what}:{user}", "add", value=value) for what, user, value in adds)
        )
        if committed.push is not None:
            self._written_bytes += paged_bytes(committed.push.records)
