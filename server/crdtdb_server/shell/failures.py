"""How the shell says that something failed: one readable line, and what to do about it."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlsplit

from cyclopts import CycloptsError

from crdtdb.errors import CrdtdbError, Problem
from crdtdb_client import Unreachable
from crdtdb_server.shell.printing import DEFAULT_URL, printable

__all__ = ["report", "report_usage"]


def report(error: CrdtdbError, *, as_json: bool) -> None:
    """Print an error: for people, or as the document that programs get over HTTP, on one line."""
    if as_json:
        print(json.dumps(_document(error), ensure_ascii=False), file=sys.stderr)
        return
    for line in _lines(error):
        print(line, file=sys.stderr)


def report_usage(error: CycloptsError, *, as_json: bool) -> None:
    """Print, in one line, what was wrong with how a command was called."""
    text = " ".join(str(error).split())
    if as_json:
        document = {"code": "wrong-usage", "detail": text, "errors": []}
        print(json.dumps(document, ensure_ascii=False), file=sys.stderr)
    else:
        print(_marked("wrong usage"), printable(text), file=sys.stderr)


def _document(error: CrdtdbError) -> dict[str, Any]:
    match error:
        case Problem():
            fields = [field._asdict() for field in error.fields]
            return {"code": error.slug, "detail": error.detail, "errors": fields}
        case Unreachable():
            return {"code": "unreachable", "detail": str(error), "errors": []}
        case _:
            return {"code": "failed", "detail": str(error), "errors": []}


def _lines(error: CrdtdbError) -> list[str]:
    match error:
        case Problem():
            return [f"{_marked(error.slug)} {printable(error.detail)}", *_hints(error)]
        case Unreachable():
            return [f"{_marked('unreachable')} {error}", *_how_to_start(error)]
        case _:
            first, *more = str(error).splitlines()
            return [f"{_marked('failed')} {printable(first)}", *map(printable, more)]


def _marked(word: str) -> str:
    return f"\033[1;31m{word}:\033[0m" if sys.stderr.isatty() else f"{word}:"


def _hints(problem: Problem) -> list[str]:
    """What was wrong with which part of the request, where the detail does not say so already."""
    return [
        printable(
            (f"  {field}: {message}" if field else f"  {message}")
            + ("" if limit is None or str(limit) in problem.detail else f" (limit: {limit})")
        )
        for field, message, limit in problem.fields
        if message not in problem.detail or str(limit or "") not in problem.detail
    ]


def _how_to_start(error: Unreachable) -> list[str]:
    url, why = error.attempts[0]
    if "CERTIFICATE_VERIFY_FAILED" in str(why):
        return ["  Name the authority that vouches for it:  --tls-ca FILE"]
    listen = "" if url == DEFAULT_URL else f" --listen {urlsplit(url).netloc}"
    return [
        f"  Start a replica there:   crdtdb serve --data-dir data{listen}",
        "  or name another server:  --url URL, or CRDTDB_URL in the environment",
    ]
