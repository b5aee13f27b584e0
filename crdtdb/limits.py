"""Every bound of crdtdb in one place, with its reason.

A bound is part of the contract: `GET /v1` shows these, errors quote them. Sizes are in bytes of
UTF-8 or of encoded form, times in milliseconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one replica. Formats do not depend on them."""

    #: A bucket name; it is repeated in every address.
    bucket_bytes: int = 63
    #: A key.
    key_bytes: int = 1_024
    #: A set member in its order-preserving form; it must fit a URL (`?member=`).
    member_bytes: int = 4_096
    #: A field of a map: how deep, and in its order-preserving form (it must fit a URL, too).
    map_depth: int = 16
    field_bytes: int = 2_048
    #: One register value, as JSON text.
    value_bytes: int = 1_048_576
    #: Nesting of a JSON value; below what any JSON library refuses to write back.
    json_depth: int = 64
    #: One increment; every JSON client holds it exactly.
    step: int = 2**53 - 1
    #: Operations of one transaction.
    transaction_operations: int = 1_000
    #: Values in one `add` or `remove`.
    operation_values: int = 1_000
    #: Elements that a list shows, and the bytes of their values: a write looks at all of them.
    list_elements: int = 100_000
    list_bytes: int = 4 * 1_048_576
    #: What a text shows, as UTF-8, and an operation on it: every commit rewrites a text.
    text_bytes: int = 4 * 1_048_576
    #: Documents behind texts that are kept in memory, those of all databases of a process together.
    document_bytes: int = 256 * 1_048_576
    #: Lists that are kept in memory, those of all databases of a process together.
    folded_bytes: int = 128 * 1_048_576
    #: Concurrent values that a write with an old read context may leave standing.
    siblings: int = 100
    #: Body of one request.
    body_bytes: int = 8 * 1_048_576
    #: Bodies of the writes that wait for their commit, and of those that share one.
    waiting_bytes: int = 64 * 1_048_576
    commit_bytes: int = 8 * 1_048_576
    #: Pushes of a peer that came before what they continue, held together for a moment.
    early_bytes: int = 16 * 1_048_576
    #: Members, keys or buckets of one page, at most and when nothing is said.
    page_items: int = 1_000
    page_items_default: int = 100
    #: Members by score, kept in memory to tell ranks: those of all sorted sets together.
    ranking_bytes: int = 256 * 1_048_576
    #: Session tokens and read contexts.
    token_bytes: int = 4_096
    #: Objects below one bucket, type or prefix that one delete may take.
    delete_objects: int = 100_000
    #: The journal of conflicts: its rows, and their bytes. The oldest give way.
    conflict_rows: int = 10_000
    conflict_bytes: int = 16 * 1_048_576
    #: For so long what was deleted can be read in the change feed, whoever has seen it.
    feed_ms: int = 600_000
    #: How far ahead another replica's clock may be before its time is refused.
    max_drift_ms: int = 5_000

    def as_dict(self) -> dict[str, int]:
        """The limits by name, as `GET /v1` shows them."""
        return asdict(self)


LIMITS = Limits()
