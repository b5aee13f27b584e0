"""What the methods of a client ask about a replica and its cluster, and how answers are read."""

from __future__ import annotations

from typing import Any, Literal

from crdtdb.address import ObjectName
from crdtdb.comparing import Answer as Ranges
from crdtdb.comparing import Entry, Part, Question
from crdtdb.reading import Digest
from crdtdb.token import TokenKind, read_token
from crdtdb_client.calls import Call, body_of
from crdtdb_client.exchange import Answer, Request
from crdtdb_client.targets import path

__all__ = [
    "accept_loss",
    "add_member",
    "damage",
    "digest",
    "digest_ranges",
    "document",
    "evict",
    "mend",
    "put_fault",
    "readiness",
    "rejoin",
    "verify",
]

#: How long a look at every object may take, in seconds.
_WALK_S = 60.0


def document(target: str) -> Call[dict[str, Any]]:
    return Call(Request("GET", target), lambda answer: dict(answer.document))


def readiness() -> Call[str]:
    return Call(Request("GET", "/readyz"), lambda answer: str(answer.document["state"]))


def digest() -> Call[Digest]:
    return Call(
        Request("GET", path("digest")),
        lambda answer: Digest(int(answer.document["digest"], 16), answer.document["objects"]),
    )


def digest_ranges(question: Question, cluster: str) -> Call[Ranges]:
    name = question.object
    body = {
        "start": question.start.hex(),
        "end": question.end.hex(),
        "at": [bound.hex() for bound in question.bounds],
        "parts": question.parts,
        "object": None if name is None else name._asdict(),
    }

    def ranges(answer: Answer) -> Ranges:
        document = answer.document
        parts = (
            Part(bytes.fromhex(one["start"]), int(one["digest"], 16), one["count"])
            for one in document["parts"]
        )
        entries = document.get("entries")
        return Ranges(
            read_token(TokenKind.SESSION, cluster, document["context"]),
            bytes.fromhex(document["end"]),
            tuple(parts),
            None if entries is None else tuple(map(_entry, entries)),
        )

    request = Request("POST", path("digest", "ranges"), body_of(body), wait_s=_WALK_S)
    return Call(request, ranges)


def _entry(shown: dict[str, Any]) -> Entry:
    return Entry(bytes.fromhex(shown["position"]), int(shown["digest"], 16), shown["size"])


def verify(after: str | None) -> Call[dict[str, Any]]:
    request = Request("GET", path("verify", after=after), wait_s=_WALK_S)
    return Call(request, lambda answer: dict(answer.document))


def damage() -> Call[dict[str, Any]]:
    return Call(Request("GET", path("damage")), lambda answer: dict(answer.document))


def accept_loss(name: ObjectName | None, *, dry_run: bool) -> Call[dict[str, Any]]:
    body = {"everything": True} if name is None else name._asdict()
    target = path("damage", "losses", dry_run="true" if dry_run else None)
    request = Request("POST", target, body=body_of(body), wait_s=_WALK_S)
    return Call(request, lambda answer: dict(answer.document))


def put_fault(
    replica: str,
    *,
    drop: bool,
    direction: Literal["both", "in", "out"],
    latency_ms: float,
    jitter_ms: float,
    loss: float,
) -> Call[None]:
    fault = {
        "drop": drop,
        "direction": direction,
        "latency_ms": latency_ms,
        "jitter_ms": jitter_ms,
        "loss": loss,
    }
    return Call(Request("PUT", path("faults", "links", replica), body_of(fault)), _nothing)


def mend(replica: str) -> Call[None]:
    return Call(Request("DELETE", path("faults", "links", replica)), _nothing)


def add_member(url: str) -> Call[str | None]:
    target = path("cluster", "members")
    return Call(
        Request("POST", target, body_of({"url": url})), lambda answer: answer.document["replica"]
    )


def evict(replica: str, *, dry_run: bool) -> Call[dict[str, Any]]:
    target = path("cluster", "members", replica, dry_run="true" if dry_run else None)
    return Call(Request("DELETE", target), lambda answer: dict(answer.document))


def rejoin() -> Call[str]:
    target = path("cluster", "rejoin")
    return Call(Request("POST", target), lambda answer: str(answer.document["incarnation"]))


def _nothing(_: Answer) -> None:
    return None
