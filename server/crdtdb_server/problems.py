"""Problems as HTTP answers (RFC 9457), and the pages that their `type` points to."""

from __future__ import annotations

from textwrap import fill
from typing import Final

from crdtdb.causal import VersionVector
from crdtdb.errors import (
    PROBLEMS,
    Field,
    Internal,
    Problem,
    Unavailable,
    UnknownRoute,
    shortened,
)
from crdtdb_server.answers import ProblemDocument
from crdtdb_server.documents import dump
from crdtdb_server.exchange import PROBLEM_JSON, TEXT, Answer, Headers, Request
from crdtdb_server.parameters import Text, parameters
from crdtdb_server.service import Service

__all__ = ["PAGE_NAMES", "problem_answer", "problem_page"]

#: Statuses that promise the same request may succeed later.
_RETRY: Final = frozenset({429, 503})
_RETRY_AFTER_S: Final = 1
#: Characters of a line of a page.
_LINE: Final = 88


def _known(slug: str) -> None:
    if slug not in PROBLEMS:
        known = ", ".join(PROBLEMS)
        raise UnknownRoute(
            f"there is no problem {shortened(slug)!r}; there are {known}",
            Field("slug", "no problem", known),
        )


_SLUG: Final = Text("slug", "The `code` of a problem", accept=_known, form={"enum": list(PROBLEMS)})
PAGE_NAMES: Final = parameters(_SLUG)


def problem_answer(error: Problem, seen: VersionVector, headers: Headers = ()) -> Answer:
    """The answer that reports a problem."""
    document: ProblemDocument = {
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
    return Answer(dump(document), seen, error.status, PROBLEM_JSON, headers)


async def problem_page(service: Service, request: Request) -> Answer:
    """What a kind of problem means, whose fault it is and what to do, for people."""
    (slug,) = request.names
    _SLUG.accept(slug)
    return Answer(_page(PROBLEMS[slug]).encode(), service.seen, media_type=TEXT)


def _page(problem: type[Problem]) -> str:
    meaning, advice = (" ".join(part.split()) for part in (problem.__doc__ or "").split("\n\n"))
    paragraphs = (f"{meaning}", f"Whose fault: {_fault(problem)}", f"What to do: {advice}")
    text = "\n\n".join(fill(paragraph, _LINE) for paragraph in paragraphs)
    return f"{problem.title}\n\ncode: {problem.slug}\nstatus: {problem.status}\n\n{text}\n"


def _fault(problem: type[Problem]) -> str:
    if problem is Internal:
        return "crdtdb’s. The request may have been fine."
    if issubclass(problem, Unavailable):
        return "not yours: the request was fine, and may succeed later or at another replica."
    return "the request’s: sent again unchanged, it fails again. `detail` and `errors` say where."
