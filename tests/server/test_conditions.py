"""Entity tags: what a reader has already, and writes that lose a race at this replica."""

from __future__ import annotations

import asyncio

import pytest

from crdtdb import Database
from crdtdb.reading import Reading
from wireclient import Reply, Wire

_AT = "/v1/buckets/shop/register/k"
_STEP = {"op": "increment"}


def _tag(reply: Reply) -> str:
    return reply.headers["etag"]


async def test_reads_heads_and_writes_show_the_same_tag(wire: Wire, database: Database) -> None:
    written = await wire.put(_AT, 1)
    store_id = database.engine.state.store_id
    assert _tag(written).startswith(f'W/"{store_id:016x}.')
    assert _tag(written) == _tag(await wire.get(_AT)) == _tag(await wire.request("HEAD", _AT))
    changed = await wire.put(_AT, 1)
    assert _tag(changed) != _tag(written)
    await wire.put("/v1/buckets/shop/register/other", 1)
    assert _tag(await wire.get(_AT)) == _tag(changed)


async def test_what_the_reader_has_is_not_sent_again(wire: Wire) -> None:
    old = _tag(await wire.put(_AT, 1))
    tag = _tag(await wire.put(_AT, 2))
    for given in (tag, f"{old}, {tag}", tag.removeprefix("W/"), "*"):
        unchanged = await wire.get(_AT, If_None_Match=given)
        assert (unchanged.status, unchanged.body) == (304, b""), given
        assert _tag(unchanged) == tag
        assert unchanged.token
    again = await wire.get(_AT, If_None_Match=old)
    assert (again.status, again.document["value"]) == (200, 2)
    assert (await wire.request("HEAD", _AT, headers=[("If-None-Match", tag)])).status == 304


async def test_nothing_has_a_tag_too_but_does_not_exist(wire: Wire) -> None:
    tag = _tag(await wire.get(_AT))
    assert (await wire.get(_AT, If_None_Match=tag)).status == 304
    assert (await wire.get(_AT, If_None_Match="*")).status == 200


async def test_no_value_is_read_for_what_has_not_changed(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = _tag(await wire.put(_AT, 1))

    def read(*_: object) -> None:
        raise AssertionError("the value was read")

    monkeypatch.setattr(Reading, "value", read)
    assert (await wire.get(_AT, If_None_Match=tag)).status == 304
    assert (await wire.request("HEAD", _AT)).status == 200


async def test_a_tag_of_another_replica_never_matches(wire: Wire) -> None:
    tag = _tag(await wire.put(_AT, 1))
    foreign = f'W/"{"0" * 16}{tag[tag.index(".") :]}'
    assert (await wire.get(_AT, If_None_Match=foreign)).status == 200
    refused = await wire.request("PUT", _AT, 2, headers=[("If-Match", foreign)])
    assert (refused.status, refused.document["code"]) == (412, "precondition-failed")


@pytest.mark.parametrize(("method", "body"), [("POST", b'{"op":"set","value":3}'), ("PUT", b"3")])
async def test_a_write_with_an_old_tag_changes_nothing(
    wire: Wire, method: str, body: bytes
) -> None:
    old = _tag(await wire.put(_AT, 1))
    tag = _tag(await wire.put(_AT, 2))
    before = wire.state
    refused = await wire.request(method, _AT, body=body, headers=[("If-Match", old)])
    assert refused.status == 412
    assert wire.state == before
    done = await wire.request(method, _AT, body=body, headers=[("If-Match", f"{old}, {tag}")])
    assert (done.status, done.document["value"]) == (200, 3)


async def test_delete_with_a_condition(wire: Wire) -> None:
    tag = _tag(await wire.put(_AT, 1))
    await wire.put(_AT, 2)
    assert (await wire.request("DELETE", _AT, headers=[("If-Match", tag)])).status == 412
    tag = _tag(await wire.get(_AT))
    assert (await wire.request("DELETE", _AT, headers=[("If-Match", tag)])).status == 200
    assert (await wire.request("DELETE", _AT, headers=[("If-Match", "*")])).status == 412


async def test_deleting_the_bucket_changes_every_tag_below(wire: Wire) -> None:
    tag = _tag(await wire.put(_AT, 1))
    await wire.delete("/v1/buckets/shop")
    assert (await wire.get(_AT, If_None_Match=tag)).status == 200


async def test_of_two_who_read_the_same_one_wins(wire: Wire) -> None:
    """However their writes are grouped into commits: no tag covers what its holder did not see."""
    at = "/v1/buckets/shop/counter/k"
    tag = _tag(await wire.get(at))
    replies = await asyncio.gather(*(wire.post(at, _STEP, If_Match=tag) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] + [412] * 19


async def test_read_modify_write_loses_nothing(wire: Wire) -> None:
    """Writers that go on from the tag of their own last answer where there is one."""

    async def write(writer: int) -> None:
        answer: Reply | None = None
        for step in range(5):
            while True:
                if answer is None or "etag" not in answer.headers:
                    answer = await wire.get(_AT)
                value = answer.document["value"] or []
                body = [*value, f"{writer}.{step}"]
                answer = await wire.request("PUT", _AT, body, headers=[("If-Match", _tag(answer))])
                if answer.status == 200:
                    break
                answer = None

    await asyncio.gather(*(write(writer) for writer in range(4)))
    value = (await wire.get(_AT)).document["value"]
    assert sorted(value) == sorted(f"{w}.{s}" for w in range(4) for s in range(5))
