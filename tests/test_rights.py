"""What peers may say of rights: what no honest replicas can have done together is refused whole."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import PeerError
from crdtdb.limits import LIMITS
from crdtdb.record import Record
from crdtdb.types._rights import shifts
from replicas import Replica, exchange, missing

NAME = ObjectName("shop", "bcounter", "k")
PEER = 77


def forged(*rows: tuple[int, Any]) -> tuple[list[tuple[bytes, bytes]], VersionVector]:
    """Rows of made-up incarnations, as they travel."""
    live = {(incarnation, 9): payload for incarnation, payload in rows}
    seen = VersionVector.of(live)
    at = NAME.prefix + address.OWN
    return [(at, codec.encode_record(at, Record(live, seen)))], seen


CREATION: Final[Any] = (1, 0, 10, 10, [])


@pytest.mark.parametrize(
    "row",
    [
        (CREATION, 0, 1, [], None),
        (CREATION, 3, 0, [(78, 4)], None),
        (CREATION, 3, 2, [(78, 2)], None),
        (CREATION, 11, 0, [], (PEER, 1, 11, 0, [])),
        (CREATION, 3, 0, [], (PEER, 1, 3, 0, [(78, 8)])),
        (None, 3, 0, [], None),
        ((10, 0, 10, 10, []), 3, 0, [], None),
        ((1, 5, 3, 0, []), 0, 0, [], None),
        (CREATION, 0, 0, [], (0, 1, 0, 0, [])),
        (CREATION, b"\x01", 0, [], None),
        (CREATION, -1, 0, [], None),
    ],
)
def test_a_row_that_uses_rights_it_has_not_is_refused_whole(row: Any) -> None:
    a, b = Replica(1), Replica(2)
    a.do("bcounter", "create")
    b.do("flag", "enable")
    exchange(a, b)
    rows, state = a.rows(), a.engine.state
    records, seen = forged((PEER, row))
    flag = missing(b.store, NOTHING)
    empty = Replica(5)
    for replica in (empty, a) if row[0] is not None else (empty,):
        with pytest.raises(PeerError) as refused:
            replica.merge([*flag, *records], seen.join(b.seen), 0)
        assert refused.value.reason == "bad-record"
    assert (a.rows(), a.engine.state) == (rows, state)
    assert not empty.exists("bcounter")


def test_a_row_within_its_rights_is_taken_in() -> None:
    a = Replica(5)
    a.merge(*forged((PEER, (CREATION, 3, 1, [(78, 2)], (PEER, 1, 3, 1, [(78, 5)])))), 0)
    assert a.value("bcounter") == 2


# Moving them --------------------------------------------------------------------------------------

_HELD = st.dictionaries(st.integers(1, 9), st.integers(0, 10**20), min_size=1)


@given(_HELD)
def test_giving_settles_and_nobody_goes_below_a_share_for_it(held: dict[int, int]) -> None:
    share = sum(held.values()) // len(held)
    now = dict(held)
    for _ in range(100):
        given_now = [(i, *shift) for i in now for shift in shifts(now, i)]
        if not given_now:
            break
        for giver, taker, amount in given_now:
            assert amount >= 1
            now[giver] -= amount
            now[taker] += amount
            assert now[giver] >= share
    assert sum(now.values()) == sum(held.values())
    if max(held.values()) <= LIMITS.step:
        assert all(2 * left >= share for left in now.values())


@pytest.mark.parametrize(
    ("held", "given_away"),
    [
        ({1: 90, 2: 0, 3: 0}, [(2, 30), (3, 30)]),
        ({1: 90, 2: 30, 3: 30}, []),
        ({1: 70, 2: 60, 3: 20}, [(3, 20)]),
        ({1: 50, 2: 100}, []),
        ({1: 1, 2: 0}, []),
        ({1: 5}, []),
    ],
)
def test_who_holds_most_gives_to_who_has_used_most(
    held: dict[int, int], given_away: list[tuple[int, int]]
) -> None:
    assert list(shifts(held, 1)) == given_away
