"""The OpenAPI document and the pages: valid, complete, and enough without any other server."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from crdtdb.errors import PROBLEMS
from crdtdb.limits import LIMITS
from crdtdb.operations import operation_names
from crdtdb.types import CATALOGUE
from crdtdb_server.access import Access
from crdtdb_server.docs import described
from crdtdb_server.openapi import openapi_document
from crdtdb_server.peers.losses import damage_routes
from crdtdb_server.peers.membership import membership_routes
from crdtdb_server.peers.routes import fault_routes, peer_routes
from crdtdb_server.routes import ROUTES
from wireclient import Wire

#: The routes of replication know a network only when they are asked.
_NETWORK: Any = None
_TABLE = described(
    (
        *(*ROUTES, *peer_routes(_NETWORK), *membership_routes(_NETWORK)),
        *(*damage_routes(_NETWORK), *fault_routes(_NETWORK)),
    )
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(_TABLE)


def test_it_is_openapi(document: dict[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["openapi"] == "3.1.0"


def test_it_has_every_route_and_no_other(document: dict[str, Any]) -> None:
    shown = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert shown == {(route.method, route.path) for route in _TABLE}
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(set(ids)) == len(ids)


def test_it_says_who_may_ask(document: dict[str, Any]) -> None:
    kinds: dict[Access, list[Any]] = {Access.OPEN: [], Access.PEER: [{"cluster": []}, {}]}
    for route in _TABLE:
        operation = document["paths"][route.path][route.method.lower()]
        needs = [{"token": [route.access.value]}, {}]
        assert operation["security"] == kinds.get(route.access, needs)
        assert ("401" in operation["responses"]) == (route.access not in kinds)


def test_it_has_what_validates_requests(document: dict[str, Any]) -> None:
    for route in _TABLE:
        operation = document["paths"][route.path][route.method.lower()]
        named = {(one["in"], one["name"]) for one in operation["parameters"]}
        assert {("query", name) for name in route.query} <= named
        assert {("path", name) for name in re.findall(r"{(\w+)}", route.path)} <= named
        assert {("header", header.name) for header in route.headers} <= named
        assert ("requestBody" in operation) == bool(route.body_bytes)
        assert operation["description"]
    schemas = document["components"]["schemas"]
    for name in CATALOGUE:
        assert len(schemas[f"{name.capitalize()}Operation"]["anyOf"]) == len(operation_names(name))
    assert schemas["CounterIncrement"]["properties"]["by"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": LIMITS.step,
        "default": 1,
    }
    assert schemas["SetAdd"]["properties"]["values"]["maxItems"] == LIMITS.operation_values


def test_it_has_every_problem(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["ProblemDocument"]
    assert problem["properties"]["code"]["enum"] == list(PROBLEMS)
    (tag,) = [tag for tag in document["tags"] if tag["name"] == "problems"]
    for slug in PROBLEMS:
        assert f"[`{slug}`](/problems/{slug})" in tag["description"]


async def test_it_is_served(wire: Wire) -> None:
    served = await wire.get("/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert served.document == openapi_document(described(ROUTES))


async def test_the_page_needs_no_other_server(wire: Wire) -> None:
    page = await wire.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    text = page.body.decode()
    assert "//" not in text
    loaded = re.findall(r'(?:src|href)="(docs/[^"]+)"', text)
    assert len(loaded) == 3
    for name in loaded:
        file = await wire.get(f"/{name}")
        assert (file.status, file.headers["x-content-type-options"]) == (200, "nosniff")
        wanted = "text/css" if name.endswith(".css") else "text/javascript"
        assert file.headers["content-type"] == f"{wanted}; charset=utf-8"
        assert len(file.body) > 100
    for path in ("/docs/", "/docs/page.html", "/docs/..%2F__init__.py", "/docs/LICENSE"):
        missing = await wire.get(path)
        assert (missing.status, missing.document["code"]) == (404, "unknown-route")


def test_the_front_end_is_as_it_was_published() -> None:
    folder = files("crdtdb_server.docs").joinpath("swagger_ui")
    lines = folder.joinpath("SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    assert sums.keys() == {one.name for one in folder.iterdir()} - {"SHA256SUMS"}
    assert {"LICENSE", "NOTICE"} < sums.keys()
    for name, digest in sums.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest
