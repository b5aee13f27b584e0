"""Problems as HTTP answers (RFC 9457), and the pages that their `type` points to."""

from __future__ import annotations

from typing import Any, Final

from crdtdb.causal import VersionVector
from crdtdb.errors import PROBLEMS, Problem, Unavailable, UnknownRoute
from crdtdb_server.documents import dump
from crdtdb_server.exchange import Answer, Headers, Request
from crdtdb_server.service import Service

__all__ = ["problem_answer", "problem_page"]

_PROBLEM_JSON: Final = "application/problem+json"
#: Statuses that promise the same request may succeed later.
_RETRY: Final = frozenset({429, 503})
_RETRY_AFTER_S: Final = 1


def problem_answer(error: Problem, seen: VersionVector, headers: Headers = ()) -> Answer:
    """The answer that reports a problem."""
    document: dict[str, Any] = {
        "type": f"/problems/{error.slug}",
        "code": error.slug,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.fields:
        document["errors"] = [
            {"field": field, "message": message}
            if limit is None
            else {"field": field, "message": message, "limit": limit}
            for field, message, limit in error.fields
        ]
    if error.status in _RETRY:
        headers = (*headers, ("Retry-After", str(error.retry_after_s or _RETRY_AFTER_S)))
    return Answer(dump(document), seen, error.status, _PROBLEM_JSON, headers)


async def problem_page(service: Service, request: Request) -> Answer:
    """What a problem means, for whoever follows its `type`."""
    (slug,) = request.names
    problem = PROBLEMS.get(slug)
    if problem is None:
        raise UnknownRoute(f"there is no problem {slug!r}; there are {', '.join(PROBLEMS)}")
    advice = (
        "The request was fine. Try again later, or at another replica."
        if issubclass(problem, Unavailable)
        else "Unchanged, the request will fail again: `detail` and `errors` say what to change."
    )
    text = f"{problem.title}\n\ncode: {slug}\nstatus: {problem.status}\n\n{advice}\n"
    return Answer(text.encode(), service.seen, media_type="text/plain; charset=utf-8")
