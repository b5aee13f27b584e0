"""A result on its way: who hears of it, of its failure, and what giving it up means."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crdtdb_server.pending import Pending


def _fails(_: object) -> int:
    raise ValueError("no step")


async def test_steps_follow_one_another_at_once() -> None:
    first: Pending[int] = Pending()
    last = first.then(lambda number: number + 1).then(str)
    first.succeed(1)
    assert last.is_settled
    assert await last == "2"


async def test_an_error_is_passed_on_until_somebody_takes_it() -> None:
    first: Pending[int] = Pending()
    last = first.then(lambda number: number + 1).then(str, lambda error: f"not so: {error}")
    first.fail(ValueError("full"))
    assert await last == "not so: full"


async def test_the_error_of_a_step_is_the_one_of_what_follows() -> None:
    first: Pending[int] = Pending()
    last = first.then(_fails)
    first.succeed(1)
    with pytest.raises(ValueError, match="no step"):
        await last


async def test_who_awaits_is_woken() -> None:
    first: Pending[int] = Pending()
    asyncio.get_running_loop().call_soon(first.succeed, 3)
    assert await first == 3


async def test_a_cancelled_waiter_gives_up_what_all_was_made_from() -> None:
    first: Pending[int] = Pending()
    last = first.then(str)

    async def wait() -> str:
        return await last

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert first.is_settled


async def test_nobody_hears_of_what_was_given_up() -> None:
    told: list[int] = []
    first: Pending[int] = Pending()
    first.then(told.append).give_up()
    first.succeed(1)
    assert not told


@contextmanager
def _without_collector() -> Iterator[None]:
    """Whatever goes away in here has gone because nobody refers to it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ["succeed", "fail", "give_up"])
async def test_what_is_settled_lets_its_chain_go(end: str) -> None:
    """Each write once left a cycle of 48 objects, and a fifth of its time went to finding them."""
    first: Pending[int] = Pending()
    last = first.then(str, str)
    middle = weakref.ref(last)
    last = last.then(str)
    with _without_collector():
        match end:
            case "succeed":
                first.succeed(1)
            case "fail":
                first.fail(ValueError("full"))
            case _:
                last.give_up()
        assert middle() is None
