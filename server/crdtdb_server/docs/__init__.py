"""What the server says of its own interface: `/openapi.json`, and `/docs` for people.

The page works without a network beyond this server, and under a policy that lets it load nothing
from elsewhere. The folder `swagger_ui` holds files of swagger-ui-dist 5.35.0 (Apache-2.0),
unmodified.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final

from crdtdb.errors import Field, UnknownRoute, shortened
from crdtdb_server.access import Access
from crdtdb_server.documents import dump
from crdtdb_server.exchange import JSON, Answer, Headers, Request
from crdtdb_server.openapi import openapi_document
from crdtdb_server.parameters import Text, parameters
from crdtdb_server.routing import Route
from crdtdb_server.schemas import Content
from crdtdb_server.service import Service

__all__ = ["described"]

_HTML: Final = "text/html; charset=utf-8"
_SCRIPT: Final = "text/javascript; charset=utf-8"
_STYLE: Final = "text/css; charset=utf-8"
_PAGE: Final = "page.html"

#: What the page loads: where it is, and what it is.
_FILES: Final = {
    "start.js": ("start.js", _SCRIPT),
    "swagger-ui-bundle.js": ("swagger_ui/swagger-ui-bundle.js", _SCRIPT),
    "swagger-ui.css": ("swagger_ui/swagger-ui.css", _STYLE),
}
#: The front end sets styles on elements, and its style sheet holds pictures; scripts are files.
_POLICY: Final[Headers] = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
)


def _known(name: str) -> None:
    if name not in _FILES:
        known = ", ".join(_FILES)
        raise UnknownRoute(
            f"there is no file {shortened(name)!r}; there are {known}",
            Field("file", "no such file", known),
        )


_FILE: Final = Text(
    "file", "A file that the page loads", accept=_known, form={"enum": list(_FILES)}
)


def described(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The routes, and those that describe all of them."""

    async def get_openapi(service: Service, request: Request) -> Answer:
        """The OpenAPI 3.1 document of this server."""
        return Answer(text, service.seen)

    everything = (
        *routes,
        Route(
            "GET",
            "/openapi.json",
            get_openapi,
            Access.OPEN,
            "Describe the interface to programs",
            (Content({"type": "object"}, JSON),),
        ),
        Route(
            "GET",
            "/docs",
            get_docs,
            Access.OPEN,
            "Describe the interface to people",
            (Content({"type": "string"}, _HTML),),
        ),
        Route(
            "GET",
            "/docs/{file}",
            get_docs_file,
            Access.OPEN,
            "What the page loads",
            (Content({"type": "string"}, _SCRIPT), Content({"type": "string"}, _STYLE)),
            parameters(_FILE),
            problems=(UnknownRoute,),
        ),
    )
    text = dump(openapi_document(everything))
    return everything


async def get_docs(service: Service, request: Request) -> Answer:
    """A page that shows the OpenAPI document and lets one try it out. It works offline."""
    return Answer(_read(_PAGE), service.seen, media_type=_HTML, headers=_POLICY)


async def get_docs_file(service: Service, request: Request) -> Answer:
    """A script or style sheet of the page."""
    (name,) = request.names
    _FILE.parse(name)
    path, media_type = _FILES[name]
    return Answer(_read(path), service.seen, media_type=media_type, headers=_POLICY)


@cache
def _read(path: str) -> bytes:
    return files(__name__).joinpath(path).read_bytes()
