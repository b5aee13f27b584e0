"""The plot: one shop, three regions, one cut, every type of object.

What happens is data, so that it can be read at a glance and told differently without touching how
it is told. What order matters to is written by one region of each side only (`loop` says why).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from crdtdb_server.demo.loop import Address
from crdtdb_server.demo.screen import shown

__all__ = ["AFTER", "BEFORE", "DURING", "ISOLATED", "REGIONS", "RULES", "Line", "in_brief"]

REGIONS: Final = ("eu", "us", "ap")
ISOLATED: Final = "ap"


class Line(NamedTuple):
    """One write of the story."""

    region: str
    address: Address
    plain: dict[str, Any]


def _line(region: str, address: str, op: str, **fields: Any) -> Line:
    type_name, _, key = address.partition("/")
    return Line(region, (type_name, key), {"op": op, **fields})


BEFORE: Final = (
    _line("eu", "counter/views", "increment", by=10),
    _line("us", "counter/views", "increment", by=20),
    _line("ap", "counter/views", "increment", by=5),
    _line("eu", "gcounter/orders", "increment", by=3),
    _line("us", "gcounter/orders", "increment", by=1),
    _line("us", "opcounter/stock", "increment", by=100),
    _line("eu", "register/title", "set", value="Spring sale"),
    _line("us", "mvregister/price", "set", value="9.99"),
    _line("eu", "flag/open", "enable"),
    _line("ap", "dwflag/checkout", "enable"),
    _line("eu", "set/cart", "add", values=["apple", "pear"]),
    _line("us", "gset/visitors", "add", values=["ann"]),
    _line("ap", "gset/visitors", "add", values=["bo"]),
)

DURING: Final = (
    _line("ap", "counter/views", "increment", by=7),
    _line("eu", "counter/views", "increment", by=8),
    _line("us", "counter/views", "decrement", by=2),
    _line("ap", "gcounter/orders", "increment", by=2),
    _line("eu", "gcounter/orders", "increment", by=4),
    _line("ap", "opcounter/stock", "decrement", by=5),
    _line("us", "opcounter/stock", "reset"),
    _line("us", "opcounter/stock", "increment", by=50),
    _line("ap", "register/title", "set", value="Harvest sale"),
    _line("eu", "register/title", "set", value="Summer sale"),
    _line("ap", "mvregister/price", "set", value="7.99"),
    _line("us", "mvregister/price", "set", value="8.49"),
    _line("ap", "flag/open", "enable"),
    _line("us", "flag/open", "disable"),
    _line("ap", "dwflag/checkout", "enable"),
    _line("us", "dwflag/checkout", "disable"),
    _line("ap", "set/cart", "add", values=["apple", "plum"]),
    _line("us", "set/cart", "remove", values=["apple", "pear"]),
    _line("ap", "gset/visitors", "add", values=["cy"]),
    _line("eu", "gset/visitors", "add", values=["dee"]),
)

AFTER: Final = (
    _line("us", "mvregister/price", "set", value="7.99"),
    _line("ap", "dwflag/checkout", "enable"),
    _line("eu", "counter/views", "increment", by=1),
)

#: What wins when both sides wrote, and why the value is what it is.
RULES: Final = {
    "counter": "every step counts, once",
    "gcounter": "every step counts, once",
    "opcounter": "a reset takes only the steps it saw",
    "register": "the later write",
    "mvregister": "both, until somebody settles it",
    "flag": "enable beats disable",
    "dwflag": "disable beats enable",
    "set": "add beats remove",
    "gset": "what was added stays",
}


def in_brief(lines: Sequence[Line], address: Address, regions: Sequence[str]) -> str:
    """What these regions do to an object, in a few characters."""
    return ", ".join(
        _brief(line.plain) for line in lines if line.region in regions and line.address == address
    )


def _brief(plain: dict[str, Any]) -> str:
    match plain:
        case {"op": "increment", "by": by}:
            return f"+{by}"
        case {"op": "decrement", "by": by}:
            return f"−{by}"
        case {"op": "set", "value": value}:
            return f"“{shown(value)}”"
        case {"op": "add", "values": values}:
            return f"+ {shown(values)}"
        case {"op": "remove", "values": values}:
            return f"− {shown(values)}"
        case {"op": op}:
            return str(op)
    raise AssertionError(plain)
