"""What a peer may send: either it is refused whole, or everything can be read afterwards.

Payloads are made up from what each type says about their shape, so that many of them get in.
"""

from __future__ import annotations

import json
import math
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import NestedType, OperationType
from crdtdb.errors import PeerError
from crdtdb.hlc import MOST
from crdtdb.record import Record
from crdtdb.types import CATALOGUE
from laws.states import reached
from oracle.checks import check_books
from replicas import Replica

#: The peer that sends, and what it has seen.
PEER: Final = 77
SEEN: Final = VersionVector({PEER: 9})

_DOTS: Final = [(PEER, counter) for counter in (1, 2, 9)]
_LEAVES_OF_MAPS: Final = [
    *(address.leaf(["a"], name, address.OWN) for name in ("counter", "register", "max", "dwflag")),
    *(address.leaf(["a", "b"], name, address.MEMBER + b"\x10") for name in ("zset", "rwset")),
]
_TEXTS: Final = [b"1", b"1.0", b'{"a":[null]}', b'{ "b": 1, "a": 2 }', b'"\\ud800"', b"1e400", b""]

#: What may stand where a payload has a value of that type; some of it is never written.
_LEAVES: Final[dict[Any, st.SearchStrategy[Any]]] = {
    None: st.none(),
    NoneType: st.none(),
    bool: st.booleans(),
    int: st.sampled_from([PEER, PEER, 1, 2, 0, -1, 2**53, MOST]),
    float: st.sampled_from([0.5, 1.0, -0.0, 1e300, math.nan, -math.inf]),
    bytes: st.sampled_from(_TEXTS) | st.binary(max_size=17),
    str: st.integers(-(10**41), 10**41).map(str) | st.text("0-1\n", max_size=3),
}


def _shaped(shape: Any) -> st.SearchStrategy[Any]:
    """Values of a msgspec type, its constraints left aside."""
    origin, inner = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return _shaped(inner[0])
    if origin is tuple:
        return st.tuples(*map(_shaped, inner))
    if origin is list:
        return st.lists(_shaped(inner[0]), max_size=2)
    if origin in (Union, UnionType):
        return st.one_of(*map(_shaped, inner))
    return _LEAVES[shape]


@cache
def _forged(type_name: str) -> st.SearchStrategy[tuple[bytes, bytes]]:
    """A record of the object that all of the suite is about, as it travels."""
    kind, name = CATALOGUE[type_name], ObjectName("shop", type_name, "k")
    tails = [address.OWN, address.BASE]
    tails += [address.MEMBER + member for member in (b"\x10", b"\x30a\0")]
    if isinstance(kind, NestedType):
        leaves = [
            st.builds(
                _travelling,
                st.just(name.prefix + tail),
                st.dictionaries(st.sampled_from(_DOTS), _shaped(leaf.payload), max_size=2),
            )
            for tail in _LEAVES_OF_MAPS
            if (leaf := kind.at(tail)) is not None
        ]
        return st.one_of(leaves)
    placed = [name.prefix + tail for tail in tails if kind.places(tail)]

    def live(shape: Any) -> st.SearchStrategy[Any]:
        return st.dictionaries(st.sampled_from(_DOTS), _shaped(shape), max_size=2)

    if not isinstance(kind, OperationType):
        return st.builds(_travelling, st.sampled_from(placed), live(kind.payload))
    operations = [
        st.builds(
            _travelling,
            st.just(address.operation(name, dot)),
            st.fixed_dictionaries({dot: _shaped(kind.payload)}),
        )
        for dot in _DOTS
    ]
    return st.one_of(
        *operations, st.builds(_travelling, st.sampled_from(placed), live(kind.folded))
    )


def _travelling(at: bytes, live: dict[Any, Any]) -> tuple[bytes, bytes]:
    context = VersionVector.of(live) if live else SEEN
    return at, codec.encode_record(at, Record(live, context))


@pytest.mark.parametrize("type_name", CATALOGUE)
@given(st.data())
def test_forged_records_are_refused_or_harmless(type_name: str, data: st.DataObject) -> None:
    replicas = data.draw(reached(type_name)).replicas
    entries = data.draw(st.lists(_forged(type_name), min_size=1, max_size=2))
    a, state, rows = replicas[0], replicas[0].engine.state, replicas[0].rows()
    try:
        a.merge(entries, SEEN.join(a.seen), 0)
    except PeerError:
        event("refused")
        assert (a.engine.state, a.rows()) == (state, rows)
    else:
        event("taken in")
        _use(a, type_name)


def _use(a: Replica, type_name: str) -> None:
    """Everything that can be done with an object can be done with it."""
    json.dumps(a.value(type_name))
    check_books(a.store)
    b = Replica(9)
    b.pull(a)
    assert b.digest() == a.digest()
    if CATALOGUE[type_name].deletable:
        a.do(type_name, "delete")
    a.reclaim()
    check_books(a.store)
    a.reopen()
