"""Whatever is sent, the answer is one of the contract, and a refusal changes nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crdtdb import Database
from crdtdb.errors import PROBLEMS
from crdtdb.operations import operation_names
from crdtdb.types import CATALOGUE
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.exchange import Incoming
from crdtdb_server.routes import ROUTES
from crdtdb_server.service import Service

_OPS = sorted({op for name in CATALOGUE for op in operation_names(name)})
_FIELDS = ["by", "value", "values", "seen", "limit", "after", "from", "to", "member", "reverse"]

_piece = st.one_of(
    st.sampled_from(["v1", "buckets", "transactions", "shop", "k", "", ".", "..", "%2F", "%zz"]),
    st.sampled_from(list(CATALOGUE)),
    st.text(
        alphabet=st.characters(exclude_characters="/?#", exclude_categories=["Cs"]), max_size=4
    ),
)
_path = st.one_of(
    st.tuples(st.just("v1/buckets/shop"), st.sampled_from(list(CATALOGUE)), _piece).map("/".join),
    st.sampled_from(["v1/transactions", "v1/import", "v1/export"]),
    st.lists(_piece, max_size=6).map("/".join),
)
_query = st.lists(
    st.tuples(
        st.sampled_from([*_FIELDS, "explain", "prefix", "values", "dry_run", "x"]),
        st.sampled_from(
            ["1", "0", "true", "%22a%22", "null", "", "%", "AAAA", "[1,2]", "%00", "9" * 30]
        ),
    ).map("=".join),
    max_size=3,
).map("&".join)
_target = st.tuples(_path, st.just("") | _query).map(
    lambda parts: f"/{parts[0]}?{parts[1]}".removesuffix("?")
)

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
_value = st.sampled_from([1, 5, 2**53 - 1, "a", ["a", 1], [], None, True]) | _json
_op = st.sampled_from(_OPS)
_rest = st.dictionaries(st.sampled_from(_FIELDS), _value, max_size=2)
_operation = st.tuples(_op, _rest).map(lambda parts: {"op": parts[0], **parts[1]})
_entry = st.tuples(st.sampled_from(list(CATALOGUE)), _operation | _rest).map(
    lambda parts: {"bucket": "shop", "type": parts[0], "key": "k", **parts[1]}
)
_transaction = st.fixed_dictionaries(
    {}, optional={"reads": st.lists(_entry, max_size=2), "updates": st.lists(_entry, max_size=2)}
)
_body = st.one_of(
    (_operation | st.lists(_operation, max_size=3) | _transaction | _json).map(
        lambda document: json.dumps(document).encode()
    ),
    st.binary(max_size=20),
)
_headers = st.fixed_dictionaries(
    {"host": st.sampled_from(["localhost"] * 9 + ["\xff:1"])},
    optional={
        "crdtdb-context": st.text(max_size=8),
        "prefer": st.sampled_from(["wait=0", "wait=x", "wait", ",;="]),
        "x-request-id": st.text(max_size=8),
        "content-type": st.sampled_from(["text/plain", "application/x-ndjson"]),
        "if-match": st.sampled_from(["*", "x", f'W/"{0:016x}.0"']),
        "if-none-match": st.sampled_from(["*", "x", f'W/"{0:016x}.0"']),
        "idempotency-key": st.sampled_from(["k", "", "k k"]),
    },
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]),
    target=_target,
    headers=_headers,
    body=_body,
)
def test_every_request_gets_an_answer_of_the_contract(
    method: str, target: str, headers: dict[str, Any], body: bytes
) -> None:
    headers = {"content-type": "application/json"} | headers
    asyncio.run(_check(Incoming(method, target, headers, body)))


async def _check(incoming: Incoming) -> None:
    with Database.in_memory(replica="eu-1") as database:
        service = Service(database)
        before = service.seen, database.digest()
        response = await Dispatcher(service, ROUTES).answer(incoming)
        after = service.seen, database.digest()
        await service.writer.close()
    status, body = response.status, response.body
    fields = dict((*response.headers, *response.fixed.fields))
    assert fields["Crdtdb-Context"]
    assert all(value.isprintable() for value in fields.values())
    if status == 200:
        assert incoming.method in ("POST", "PUT", "DELETE") or after == before
    elif status == 304:
        assert (body, after) == (b"", before)
    else:
        assert status < 500
        assert fields["Content-Type"] == "application/problem+json"
        document = json.loads(body)
        assert PROBLEMS[document["code"]].status == status == document["status"]
        assert after == before
