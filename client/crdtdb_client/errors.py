"""What can go wrong between a client and a replica, beyond what the replica itself reports.

A replica's own reports are the problems of `crdtdb.errors`, the same classes as at the embedded
door; `problem_from` turns the documents back into them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crdtdb.errors import PROBLEMS, CallerError, CrdtdbError, Field, Problem, Unavailable

__all__ = ["OutcomeUnknown", "UnexpectedAnswer", "Unreachable", "problem_from"]


class Unreachable(CrdtdbError):
    """No replica could be asked. Nothing was written.

    `attempts` holds the URLs in the order they were tried, each with what went wrong there.
    """

    def __init__(self, attempts: Sequence[tuple[str, str]]) -> None:
        self.attempts = tuple(attempts)
        tried = ", nor at ".join(f"{url} ({reason})" for url, reason in self.attempts)
        super().__init__(f"no replica answers at {tried}")


class OutcomeUnknown(CrdtdbError):
    """A write was sent, no answer came, and the replica at `url` cannot be asked what became of it.

    It was sent to that replica again, which would have carried it out once in all, and nowhere
    else, because at another replica it would have counted twice. Read what it would have changed,
    at that replica, before you decide.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        super().__init__(f"{url} got a write and did not answer ({reason}): it may have happened")


class UnexpectedAnswer(CrdtdbError):
    """Something answered that is no crdtdb server: another program, or a proxy in between."""

    def __init__(self, url: str, status: int, text: str) -> None:
        self.url = url
        self.status = status
        super().__init__(f"{url} is not answering as a crdtdb server does: {status} {text[:200]!r}")


def problem_from(document: Mapping[str, Any], retry_after: str | None) -> Problem:
    """The problem that a `problem+json` document describes.

    A slug that this version does not know still lands in the right family, by its status.
    """
    status = int(document["status"])
    unknown = Unavailable if status >= 500 or status == 429 else CallerError
    fields = [
        Field(entry["field"], entry["message"], entry.get("limit"))
        for entry in document.get("errors", ())
    ]
    return PROBLEMS.get(document["code"], unknown)(
        document["detail"],
        *fields,
        retry_after_s=int(retry_after) if retry_after and retry_after.isdecimal() else None,
    )
