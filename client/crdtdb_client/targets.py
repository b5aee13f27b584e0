"""Where a replica is, and where on it an object is: URLs, written exactly.

Keys may hold any character, so every part of a path is percent-encoded by itself: `a/b` is the one
segment `a%2Fb`, and the server decodes it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from crdtdb import address
from crdtdb.address import ObjectName

__all__ = ["path", "path_to", "replica_url"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def replica_url(text: str) -> str:
    """The normal form of a replica's URL: scheme and authority and nothing else.

    Raises ValueError, which says what is wrong.
    """
    try:
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("it holds characters that URLs do not have")
        parts = urlsplit(text)
        port = parts.port
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError("it must be like http://host:7460")
        if parts.username is not None:
            raise ValueError("it must not hold credentials")
        if parts.path not in ("", "/") or "?" in text or "#" in text:
            raise ValueError("it must end after the host and port")
    except ValueError as error:
        raise ValueError(f"{text!r} is not the URL of a replica: {error}") from None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port in (None, _DEFAULT_PORTS[parts.scheme]):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"


def path(*segments: str, **query: str | int | None) -> str:
    """A path below `/v1` with a query; what is None in the query is left out."""
    target = "/".join(("/v1", *map(_segment, segments)))
    given = {name: value for name, value in query.items() if value is not None}
    return f"{target}?{_query(given)}" if given else target


def path_to(name: ObjectName, **query: str | int | None) -> str:
    """The path of an object. Raises BadRequest for a bucket or key that no server takes."""
    address.check_bucket(name.bucket)
    address.check_key(name.key)
    return path("buckets", *name, **query)


def _segment(text: str) -> str:
    """One segment. SUBTLE: HTTP libraries take a segment of dots alone for a step up, so they go
    encoded; what they mean is the server's to decide."""
    quoted = quote(text, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _query(parameters: Mapping[str, str | int]) -> str:
    return urlencode(parameters, quote_via=quote, safe="")
