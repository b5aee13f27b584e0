"""Every route for every kind of caller, and the buckets that only a body names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from crdtdb import Database
from crdtdb.errors import StartError
from crdtdb_server.access import Access
from crdtdb_server.app import serving
from crdtdb_server.config import Settings
from crdtdb_server.credentials import Keyring
from crdtdb_server.docs import described
from crdtdb_server.openapi import openapi_document
from crdtdb_server.peers.losses import damage_routes
from crdtdb_server.peers.membership import membership_routes
from crdtdb_server.peers.routes import fault_routes, peer_routes
from crdtdb_server.ports import free_ports
from crdtdb_server.routes import ROUTES
from crdtdb_server.routing import Route
from crdtdb_server.serve import live
from crdtdb_server.service import Options, Service
from livecluster import LiveWire, eventually
from wireclient import Wire

_NETWORK: Any = None
_TABLE: Final = described(
    (
        *(*ROUTES, *peer_routes(_NETWORK), *membership_routes(_NETWORK)),
        *(*damage_routes(_NETWORK), *fault_routes(_NETWORK)),
    )
)
_VALUES: Final = {
    "{bucket}": "shop",
    "{type}": "register",
    "{key}": "k",
    "{replica}": "us-1",
    "{slug}": "forbidden",
    "{file}": "start.js",
}
#: Token → what its line says of it.
_TOKENS: Final = {
    "read": "reader read",
    "write": "writer write",
    "admin": "chief admin",
    "shop": "clerk admin shop",
    "other": "stranger admin depot,other",
}
_MAY: Final = {
    "read": {Access.STATUS, Access.READ},
    "write": {Access.STATUS, Access.READ, Access.WRITE},
    "admin": {Access.STATUS, Access.READ, Access.WRITE, Access.ADMIN},
}
_UPDATE: Final = {"bucket": "shop", "type": "counter", "key": "k", "op": "increment"}


def _hash(token: str) -> str:
    return f"sha256:{sha256(token.encode()).hexdigest()}"


def _bearer(token: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}")]


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    lines = [f"{_hash(token)} {rest}" for token, rest in _TOKENS.items()]
    file.write_text("\n".join(["# who may ask", "", *lines]))
    return file


@pytest.fixture
async def guarded(token_file: Path) -> AsyncIterator[LiveWire]:
    """A live replica that asks for tokens, with every route there is."""
    settings = Settings(
        data_dir=Path("unused"),
        listen=f"127.0.0.1:{free_ports(1)[0]}",
        token_file=token_file,
        allow_fault_injection=True,
    )
    with Database.in_memory(replica="eu-1") as database:
        async with live(database, settings) as replica:
            wire = LiveWire(replica)
            await eventually("serving", lambda: replica.service.state() == "serving")
            yield wire


def _target(route: Route) -> str:
    path = "/".join(_VALUES.get(part, part) for part in route.path.split("/"))
    return f"{path}?bucket=shop" if "bucket" in route.query else path


def _name(route: Route) -> str:
    return f"{route.method} {route.path}"


async def _ask(wire: Wire, route: Route, token: str | None) -> Any:
    headers = [] if token is None else _bearer(token)
    body = b"[]" if route.body_bytes else b""
    return await wire.request(route.method, _target(route), body=body, headers=headers)


@pytest.mark.parametrize("route", _TABLE, ids=_name)
async def test_each_route_for_each_caller(guarded: LiveWire, route: Route) -> None:
    is_guarded = route.access not in (Access.OPEN, Access.PEER)
    for token in (None, "unknown"):
        reply = await _ask(guarded, route, token)
        assert (reply.status == 401) == is_guarded, token
        if is_guarded:
            assert reply.headers["www-authenticate"] == 'Bearer realm="crdtdb"'
            assert reply.document["code"] == "unauthorized"
            assert reply.document["errors"][0]["field"] == "Authorization"
    for token, allowed in _MAY.items():
        reply = await _ask(guarded, route, token)
        assert (reply.status == 403) == (is_guarded and route.access not in allowed), token
        if reply.status == 403:
            assert reply.document["errors"][0]["limit"] == route.access.value
        assert reply.status != 401
    reply = await _ask(guarded, route, "other")
    assert (reply.status == 403) == (route.access.is_of_data and not route.by_bucket)


_DESCRIBED: Final = [
    pytest.param(method.upper(), path, operation, id=f"{method.upper()} {path}")
    for path, methods in openapi_document(_TABLE)["paths"].items()
    for method, operation in methods.items()
]
#: What each scope may ask for, in the words of the OpenAPI document.
_INCLUDED: Final = {
    "reader": {"status", "read"},
    "writer": {"status", "read", "write"},
    "chief": {"status", "read", "write", "admin"},
}


#: Routes that name no bucket and are for tokens of some: what proves that each part is looked at.
_LOOK_THEMSELVES: Final = {
    "GET /v1/buckets": "test_only_buckets_of_the_token_are_listed",
    "POST /v1/transactions": "test_each_part_of_a_transaction_is_checked",
    "POST /v1/import": "test_each_line_of_an_import_is_checked",
}


async def test_what_is_asked_here_is_all_that_is_served(guarded: LiveWire) -> None:
    """So that a route which is served and not in the table of these tests does not go unseen."""
    served = (await guarded.request("GET", "/openapi.json")).document["paths"]
    assert served == openapi_document(_TABLE)["paths"]
    assert len(_DESCRIBED) == sum(map(len, served.values())) == len(_TABLE) > 30
    needed = [route.access for route in _TABLE]
    assert {*needed} == {*Access}
    assert min(needed.count(access) for access in (Access.READ, Access.WRITE, Access.ADMIN)) > 3
    assert {_name(route) for route in _TABLE if route.by_bucket} == {*_LOOK_THEMSELVES}
    assert {*_LOOK_THEMSELVES.values()} <= {*globals()}


@pytest.mark.parametrize(("method", "path", "operation"), _DESCRIBED)
async def test_what_is_described_holds_for_each_caller(
    guarded: LiveWire, method: str, path: str, operation: dict[str, Any]
) -> None:
    """Generated from the document: a route that it has no way around `authorise`."""
    hidden = "/v1/buckets/hidden/register/k"
    written = await guarded.request("PUT", hidden, body=b'"marker"', headers=_bearer("admin"))
    assert written.status == 200
    names = _VALUES | {"{bucket}": "hidden"}
    bare = "/".join(names.get(part, part) for part in path.split("/"))
    targets = [bare]
    if any((one["in"], one["name"]) == ("query", "bucket") for one in operation["parameters"]):
        targets.append(f"{bare}?bucket=hidden")
    body = b"[]" if "requestBody" in operation else b""

    async def ask(target: str, token: str | None) -> Any:
        headers = [] if token is None else _bearer(token)
        reply = await guarded.request(method, target, body=body, headers=headers)
        if method == "GET":  # HEAD takes the same way
            head = await guarded.request("HEAD", target, headers=headers)
            assert (head.status, head.body) == (reply.status, b"")
        return reply

    (needed,) = [one["token"][0] for one in operation["security"] if "token" in one] or [None]
    for target in targets:
        # Callers of other buckets first, who must neither see nor change this one.
        reply = await ask(target, "other")
        if needed in ("read", "write", "admin") and "hidden" in target:
            assert reply.status == 403
        assert b"marker" not in reply.body
        for token in (None, "unknown"):
            assert ((await ask(target, token)).status == 401) == (needed is not None)
        shown = await guarded.request("GET", hidden, headers=_bearer("admin"))
        assert shown.document["value"] == "marker"
        for token, name in (("read", "reader"), ("write", "writer"), ("admin", "chief")):
            reply = await ask(target, token)
            refused = needed is not None and needed not in _INCLUDED[name]
            assert (reply.status == 403) == refused, token


async def test_each_way_to_read_is_closed_to_other_buckets(guarded: LiveWire) -> None:
    """All parameters that change what a read does, and none that changes who may read."""
    register, cart = "/v1/buckets/hidden/register/k", "/v1/buckets/hidden/set/cart"
    await guarded.request("PUT", register, body=b'"marker"', headers=_bearer("admin"))
    await guarded.request("POST", cart, {"op": "add", "value": "marker"}, headers=_bearer("admin"))
    targets = [
        f"{register}?explain=true",
        f"{cart}?from=%22a%22&limit=5",
        "/v1/buckets/hidden/register?values=true",
        *(f"/v1/changes?include=value{part}" for part in ("", "&bucket=hidden")),
        "/v1/changes?include=value&bucket=hidden&feed=longpoll",
        *(f"/v1/export{part}" for part in ("", "?bucket=hidden", "?bucket=hidden&paged=true")),
        "/v1/backup",
    ]
    for target in targets:
        # Whoever may read it is shown what others must not see.
        shown = await guarded.request("GET", target, headers=_bearer("admin"))
        assert (shown.status, b"marker" in shown.body) == (200, True), target
    targets += [
        f"{cart}?member=%22marker%22",
        "/v1/buckets/hidden",
        "/v1/changes?bucket=hidden&feed=sse",
        *(f"/v1/conflicts{part}" for part in ("", "?bucket=hidden")),
        "/v1/verify",
        "/v1/digest",
    ]
    for target in targets:
        reply = await guarded.request("GET", target, headers=_bearer("other"))
        assert (reply.status, b"marker" in reply.body) == (403, False), target
    question: dict[str, Any] = {"ranges": []}
    for path in ("/v1/digest/ranges", "/v1/cluster/rejoin", "/v1/cluster/members"):
        reply = await guarded.request("POST", path, question, headers=_bearer("other"))
        assert reply.status == 403, path


@pytest.mark.parametrize("target", ["/v1/changes", "/v1/conflicts", "/v1/export", "/v1/digest"])
async def test_what_touches_all_buckets_is_not_for_a_token_of_some(
    guarded: LiveWire, target: str
) -> None:
    reply = await guarded.request("GET", target, headers=_bearer("shop"))
    assert (reply.status, reply.document["errors"][0]["field"]) == (403, "bucket")
    assert (await guarded.request("GET", target, headers=_bearer("read"))).status == 200


async def test_only_buckets_of_the_token_are_listed(guarded: LiveWire) -> None:
    for bucket in ("depot", "hidden", "other", "shop"):
        target = f"/v1/buckets/{bucket}/counter/k"
        await guarded.request("POST", target, {"op": "increment"}, headers=_bearer("write"))
    target = "/v1/buckets?limit=1"
    first = await guarded.request("GET", target, headers=_bearer("other"))
    assert first.document["buckets"] == ["depot"]
    following = f"{target}&after={first.document['next']}"
    second = await guarded.request("GET", following, headers=_bearer("other"))
    assert second.document == {"buckets": ["other"]}


async def test_each_part_of_a_transaction_is_checked(guarded: LiveWire) -> None:
    read = {name: _UPDATE[name] for name in ("bucket", "type", "key")}
    foreign = _UPDATE | {"bucket": "hidden"}

    async def status(token: str, **parts: Any) -> tuple[int, str | None]:
        reply = await guarded.request("POST", "/v1/transactions", parts, headers=_bearer(token))
        errors = reply.document.get("errors")
        return reply.status, errors and errors[0]["field"]

    assert await status("read", reads=[read]) == (200, None)
    assert await status("read", updates=[_UPDATE]) == (403, "Authorization")
    assert await status("shop", updates=[_UPDATE, foreign]) == (403, "updates[1].bucket")
    assert await status("other", reads=[read]) == (403, "reads[0].bucket")
    assert await status("shop", reads=[read], updates=[_UPDATE]) == (200, None)
    shown = await guarded.request("GET", "/v1/buckets", headers=_bearer("read"))
    assert shown.document["buckets"] == ["shop"]


async def test_each_line_of_an_import_is_checked(guarded: LiveWire) -> None:
    lines = [
        {"bucket": bucket, "type": "counter", "key": "k", "value": 1} for bucket in ("shop", "x")
    ]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    headers = [*_bearer("shop"), ("Content-Type", "application/x-ndjson")]
    reply = await guarded.request("POST", "/v1/import", body=body, headers=headers)
    assert reply.document["written"] == {"counter": 1}
    (error,) = reply.document["errors"]
    assert (error["line"], error["code"], error["field"]) == (2, "forbidden", "bucket")


@pytest.mark.parametrize("given", ["hush", "Basic read", "Bearer", "Bearer read, Bearer hush"])
async def test_other_credentials_are_none(guarded: LiveWire, given: str) -> None:
    reply = await guarded.request("GET", "/v1/buckets", headers=[("Authorization", given)])
    assert reply.status == 401
    assert b"hush" not in reply.body


async def test_the_scheme_is_written_in_any_case(guarded: LiveWire) -> None:
    headers = [("Authorization", "bEARER read")]
    assert (await guarded.request("GET", "/v1/buckets", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no token"),
        ("secret reader read", "line 1: not `sha256:HEX NAME"),
        (f"{_hash('a')} reader", "line 1: not `sha256:HEX NAME"),
        (f"{_hash('a')} reader root", "line 1: not `sha256:HEX NAME"),
        (f"# a\n{_hash('a')} reader read Shop", "line 2: "),
        (f"{_hash('a')} one read\n{_hash('a')} two read", "line 2: it repeats the token of 'one'"),
    ],
)
def test_a_token_file_with_anything_else_in_it_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(StartError) as caught:
        Keyring.read(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_beyond_loopback_only_with_tokens(token_file: Path) -> None:
    anywhere = "0.0.0.0"
    with Database.in_memory() as database:
        with pytest.raises(StartError, match="--token-file"):
            async with serving(Service(database, Options(anywhere, 0))):
                pass
        options = Options(anywhere, 0, keyring=Keyring.read(token_file))
        async with serving(Service(database, options)) as url:
            assert url.startswith(f"http://{anywhere}:")
