"""What one server takes of its callers: the bounds that its operator may set.

They hold for what comes over HTTP from clients, not for what other replicas send: replicas of one
cluster may have different ones, and take in each other's data all the same. Those that are also in
`crdtdb.limits` are part of the contract; an operator can set less.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Final

from crdtdb.errors import BadRequest, Field, Overloaded, TooLarge
from crdtdb.jsonvalue import DOCUMENT_DEPTH, has_more_elements, nesting
from crdtdb.limits import LIMITS
from crdtdb_server.access import Principal

__all__ = ["Bounds", "Rate"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one server."""

    #: Bytes of one body.
    body_bytes: int = LIMITS.body_bytes
    #: Elements of one JSON body: commas and opening brackets outside of strings. They are read in
    #: one step in which nothing else happens, of some tens of milliseconds for so many.
    body_elements: int = 50_000
    #: Levels that a JSON body nests, around its values and in them.
    body_depth: int = DOCUMENT_DEPTH
    #: Operations of one transaction, or of a list for one object.
    transaction_operations: int = LIMITS.transaction_operations
    #: Entries of one page: who asks for more gets a shorter page.
    page_items: int = LIMITS.page_items
    #: Connections, those of other replicas included.
    connections: int = 10_000
    #: Writes that wait for their commit or are in it, one full commit: more would wait longer, and
    #: none be done sooner. Together they have at most 32 times as many operations.
    waiting_writes: int = 256
    #: Answers under way that have no end, or no end soon: streams of changes, exports, backups.
    streams: int = 1_000
    #: Requests per second of one token, or of everybody where none is asked for; 0: any number.
    requests_per_s: int = 0
    #: Logins from one address that fail in a minute; 0: any number.
    failed_logins_per_min: int = 60

    def __post_init__(self) -> None:
        """Raises ValueError, which names the bound."""
        for bound in fields(self):
            value, (least, most) = getattr(self, bound.name), _RANGES[bound.name]
            if not least <= value <= most:
                raise ValueError(f"{bound.name} is {value}; it can be {least} to {most}")

    def as_dict(self) -> dict[str, int]:
        """The bounds by name, as `GET /v1` shows them."""
        return asdict(self)

    @property
    def unchecked_bytes(self) -> int:
        """A body of no more bytes has neither too many elements nor too many levels."""
        is_deep = self.body_depth < DOCUMENT_DEPTH
        return min(self.body_elements, self.body_depth) if is_deep else self.body_elements

    def check_body(self, body: bytes) -> None:
        """Hold a JSON body against elements and depth, before it is read. O(bytes), in short steps.

        Raises TooLarge or BadRequest.
        """
        if has_more_elements(body, self.body_elements):
            raise TooLarge(
                f"a body here has at most {self.body_elements} elements (commas and opening "
                "brackets outside of strings); send the work in parts, or as lines of an import",
                Field("", "too many elements", self.body_elements),
            )
        if self.body_depth < DOCUMENT_DEPTH and nesting(body) > self.body_depth:
            raise BadRequest(
                f"a body here nests at most {self.body_depth} levels",
                Field("", "nested too deep", self.body_depth),
            )


_ANY: Final = 2**31 - 1
#: The least and the most that can be set.
_RANGES: Final = {
    "body_bytes": (1_024, LIMITS.body_bytes),
    "body_elements": (100, LIMITS.body_bytes),
    "body_depth": (8, DOCUMENT_DEPTH),
    "transaction_operations": (1, LIMITS.transaction_operations),
    "page_items": (LIMITS.page_items_default, LIMITS.page_items),
    "connections": (1, _ANY),
    "waiting_writes": (1, 4_096),
    "streams": (0, _ANY),
    "requests_per_s": (0, _ANY),
    "failed_logins_per_min": (0, _ANY),
}


class Rate:
    """So many requests per second of each caller, a second's worth of them at once."""

    def __init__(self, requests_per_s: int) -> None:
        self._per_s = requests_per_s
        #: How many each may still make, as of when.
        self._left: dict[Principal, tuple[float, float]] = {}

    def take(self, caller: Principal, now_s: float) -> None:
        """Let one request in. Raises Overloaded, which says when there is room again. O(1)."""
        left, then_s = self._left.get(caller, (float(self._per_s), now_s))
        left = min(float(self._per_s), left + (now_s - then_s) * self._per_s)
        if left < 1:
            raise Overloaded(
                f"{caller.name!r} asks for more than {self._per_s} requests per second",
                Field("", "too many requests", self._per_s),
                retry_after_s=ceil((1 - left) / self._per_s),
            )
        self._left[caller] = (left - 1, now_s)
