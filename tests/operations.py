"""What to try on each type: few operations, close to each other, so that concurrent ones meet; and
exported values to write again.

One description serves both ways of choosing: by Hypothesis from a list of all (the laws, which
shrink) and by a seeded `random.Random` (executions, which are fast). It is the only place in the
shared suites that names a type; a test fails for a type of the catalogue that is missing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import Any, Final, TypeAlias

from crdtdb.limits import LIMITS

__all__ = [
    "EXPORTS",
    "NO_EXPORTS",
    "OPERATIONS",
    "SKETCHED",
    "Plain",
    "all_operations",
    "creation",
    "random_operation",
]

#: An operation as users write it: `{"op": …}`.
Plain: TypeAlias = dict[str, Any]

#: Few; 1 and 1.0 are one value, true is another.
_VALUES: Final[Sequence[Any]] = (1, 1.0, True, "a", None, {"b": [1, "a"]})
_STEPS: Final = (1, 2, 3, 10)

#: The arguments of one operation: name → what it may be.
_Arguments: TypeAlias = Mapping[str, Sequence[Any]]

_COUNT: Final[Sequence[tuple[str, _Arguments]]] = (
    ("increment", {"by": _STEPS}),
    ("increment", {}),
    ("decrement", {"by": _STEPS}),
    ("reset", {}),
)
_SWITCH: Final[Sequence[tuple[str, _Arguments]]] = (("enable", {}), ("disable", {}))
_ADD: Final[Sequence[tuple[str, _Arguments]]] = (
    ("add", {"value": _VALUES}),
    ("add", {"values": ([1, "a"], ["a", True, "a"])}),
)
_REMOVE: Final[Sequence[tuple[str, _Arguments]]] = (
    ("remove", {"value": _VALUES}),
    ("remove", {"values": ([1.0, "a"], [True, None])}),
)

#: A value that is not among the others, and the sketch of it alone.
SKETCHED: Final = "merged"
_TAKE_IN: Final[Sequence[tuple[str, _Arguments]]] = (*_ADD, ("merge", {"sketch": ("AQykAQ==",)}))

#: Sums of these are not what adding up doubles gives, in one order or the other.
_SCORES: Final[Sequence[Any]] = (1, 0.1, 0.7, -3.0, 2**53)
_MEMBERS: Final[Sequence[Any]] = ("a", 1, 1.0)
_SCORE: Final[Sequence[tuple[str, _Arguments]]] = (
    ("add", {"member": _MEMBERS, "score": _SCORES}),
    ("increment", {"member": _MEMBERS, "by": _SCORES}),
    ("increment", {"member": ("a",)}),
)

_PUT_IN: Final[Sequence[tuple[str, _Arguments]]] = (
    ("insert", {"value": ("a", 1)}),
    ("insert", {"index": (0,), "values": (["b", "b"], ["c", None, "d"])}),
    ("insert", {"index": (1,), "value": ("e", {"f": 1.0})}),
    ("insert", {"index": (2,), "values": (["g"],)}),
)

#: One, two and four bytes of UTF-8.
_TYPED: Final[Sequence[tuple[str, _Arguments]]] = (
    ("insert", {"text": ("a", "bc")}),
    ("insert", {"index": (0,), "text": ("d", "e€")}),
    ("insert", {"index": (1, 2), "text": ("𝄞f", "g")}),
)
#: What a Yjs editor sends that has typed nothing: it would need a client id of the replica's.
_FROM_AN_EDITOR: Final = "AAA="

#: Leaves of a map, at fields of which one is below another: few, so that concurrent ones meet.
#: Where the upper one holds a leaf already, nothing new comes below it.
_FIELDS: Final[Sequence[Any]] = (["a"], *[["a", "b"]] * 3)
_COUNTED: Final[Sequence[Any]] = (
    {"type": "counter", "op": "increment"},
    {"type": "counter", "op": "increment", "by": 10},
    {"type": "counter", "op": "decrement", "by": 3},
    {"type": "counter", "op": "reset"},
    {"type": "zset", "op": "increment", "member": "a", "by": 0.1},
    {"type": "gcounter", "op": "increment"},
    {"type": "opcounter", "op": "increment"},
)
#: Op-based ones.
_LOGGED: Final[Sequence[Any]] = (
    {"type": "list", "op": "insert", "value": "x"},
    {"type": "list", "op": "insert", "index": 0, "values": ["y", 1]},
    {"type": "list", "op": "insert", "index": 1, "value": "z"},
    {"type": "list", "op": "delete", "index": 0},
    {"type": "list", "op": "delete"},
    {"type": "opcounter", "op": "increment", "by": 10},
    {"type": "opcounter", "op": "decrement", "by": 3},
    {"type": "opcounter", "op": "reset"},
    {"type": "opcounter", "op": "delete"},
    {"type": "text", "op": "insert", "text": "ab"},
    {"type": "text", "op": "insert", "index": 0, "text": "c€"},
    {"type": "text", "op": "delete", "index": 0, "length": 1},
    {"type": "text", "op": "delete"},
)
_LEAVES: Final[Sequence[Any]] = (
    *_COUNTED,
    {"type": "counter", "op": "delete"},
    {"type": "dwflag", "op": "enable"},
    {"type": "dwflag", "op": "disable"},
    {"type": "flag", "op": "enable"},
    {"type": "flag", "op": "disable"},
    {"type": "gset", "op": "add", "value": 1},
    {"type": "hll", "op": "add", "values": [1, "a"]},
    {"type": "max", "op": "set", "value": 1},
    {"type": "min", "op": "set", "value": "a"},
    {"type": "mvregister", "op": "set", "value": 1},
    {"type": "mvregister", "op": "set", "value": "a"},
    {"type": "register", "op": "set", "value": {"b": [1, "a"]}},
    {"type": "register", "op": "set", "value": "a"},
    {"type": "rwset", "op": "add", "values": [1, "a"]},
    {"type": "rwset", "op": "remove", "value": "a"},
    {"type": "rwset", "op": "clear"},
    {"type": "rwset", "op": "delete"},
    {"type": "set", "op": "add", "values": [1, "a"]},
    {"type": "set", "op": "remove", "value": 1.0},
    {"type": "set", "op": "clear"},
    {"type": "zset", "op": "add", "member": "a", "score": 1},
    {"type": "zset", "op": "remove", "member": "a"},
)

#: Type → its operations, each as often as it should be chosen. The first brings an object into
#: being.
OPERATIONS: Final[Mapping[str, Sequence[tuple[str, _Arguments]]]] = {
    "bcounter": (
        ("create", {}),
        ("create", {"min": (0, -2), "max": (20,)}),
        *(("create", {"max": (20,)}),) * 3,
        *(("increment", {"by": _STEPS}),) * 3,
        *(("decrement", {"by": (1, 2, 3)}),) * 3,
        ("transfer", {"to": ("a", "b", "c"), "amount": (1, 3)}),
        ("transfer", {"to": ("a", "b", "c"), "amount": (1, 3), "rights": ("increment",)}),
    ),
    "counter": (*_COUNT, ("delete", {})),
    "dwflag": (*_SWITCH, *_SWITCH, ("delete", {})),
    "flag": (*_SWITCH, *_SWITCH, ("delete", {})),
    "gcounter": (("increment", {"by": _STEPS}), ("increment", {}), ("delete", {})),
    "gset": (*_ADD, *_ADD, ("delete", {})),
    "hll": (*_TAKE_IN, *_TAKE_IN, ("delete", {})),
    "list": (
        *_PUT_IN,
        *_PUT_IN,
        *(("delete", {"index": (0, 1, 2)}),) * 3,
        ("delete", {"index": (1,), "count": (2,)}),
        ("delete", {}),
    ),
    "map": (
        ("update", {"field": _FIELDS, "do": _COUNTED}),
        *(("update", {"field": _FIELDS, "do": _LEAVES}),) * 3,
        *(("update", {"field": _FIELDS, "do": _LOGGED}),) * 2,
        ("remove", {"field": _FIELDS}),
        ("delete", {}),
    ),
    "max": (*(("set", {"value": _VALUES}),) * 4, ("delete", {})),
    "min": (*(("set", {"value": _VALUES}),) * 4, ("delete", {})),
    "mvregister": (*(("set", {"value": _VALUES}),) * 4, ("delete", {})),
    "opcounter": (*_COUNT, ("delete", {})),
    "register": (*(("set", {"value": _VALUES}),) * 4, ("delete", {})),
    "rwset": (*_ADD, *_ADD, *_REMOVE, ("clear", {}), ("delete", {})),
    "set": (*_ADD, *_ADD, *_REMOVE, ("clear", {}), ("delete", {})),
    "text": (
        *_TYPED,
        *_TYPED,
        *(("delete", {"index": (0, 1), "length": (1, 2)}),) * 3,
        ("update", {"yjs": (_FROM_AN_EDITOR,)}),
        ("delete", {}),
    ),
    "zset": (*_SCORE, *_SCORE, ("remove", {"member": _MEMBERS}), ("clear", {}), ("delete", {})),
}

#: Type → what an export may hold of an object; the first in few words.
EXPORTS: Final[Mapping[str, Sequence[Any]]] = {
    "bcounter": [
        {"min": -1, "max": 8, "value": 3},
        {"min": 5, "max": None, "value": 5},
        {"min": 0, "max": None, "value": LIMITS.step * LIMITS.transaction_operations},
    ],
    "counter": [1, -7, 0, LIMITS.step + 1, 3 * LIMITS.step * LIMITS.transaction_operations + 5],
    "gcounter": [1, LIMITS.step + 1],
    "opcounter": [1, -7, 0, -(LIMITS.step * LIMITS.transaction_operations) - 1],
    "register": [None, {"a": [1.5, "ü"]}],
    "mvregister": [["one"], [1, 2, None]],
    "flag": [True],
    "dwflag": [True],
    "set": [[1, "a", None], list(range(LIMITS.operation_values + 1))],
    "gset": [[1, "a", None]],
    "rwset": [[1, "a", None], list(range(LIMITS.operation_values + 1))],
    "text": ["a€𝄞", "x" * (LIMITS.value_bytes + 1)],
    "list": [["a", 1, "a", None, {"b": [1.5, "ü"]}], list(range(LIMITS.operation_values + 1))],
    "map": [
        [
            {"field": ["a"], "type": "counter", "value": -7},
            {"field": ["a", "b"], "type": "mvregister", "value": [None, 1]},
            {"field": ["ü"], "type": "zset", "value": [{"member": "x", "score": 1.5}]},
        ],
        [{"field": ["a"], "type": "set", "value": [*range(LIMITS.operation_values + 1)]}],
    ],
    "max": [None, {"a": [1.5, "ü"]}],
    "min": [None, {"a": [1.5, "ü"]}],
    "hll": [{"sketch": "AQykAQ=="}],
    "zset": [
        [{"member": 1, "score": 2.5}, {"member": "a", "score": -7}],
        [{"member": number, "score": -number} for number in range(1_000)],
    ],
}
#: Type → what no export of it holds.
NO_EXPORTS: Final[Mapping[str, Sequence[Any]]] = {
    "bcounter": [
        3,
        {"min": 0, "max": 8},
        {"min": 0, "max": 8, "value": -1},
        {"min": 0, "max": "8", "value": 1},
        {"min": True, "max": None, "value": 1},
        {"min": 0, "max": None, "value": 1.5},
        {"min": 0, "max": None, "value": LIMITS.step * LIMITS.transaction_operations},
        {"min": 0, "max": 8, "value": 3, "more": 1},
    ],
    "counter": [True, 1.5, "1", None, [1], 2 * LIMITS.step * LIMITS.transaction_operations],
    "gcounter": [-1, "1"],
    "opcounter": [True, "1"],
    "register": [],
    "mvregister": ["x", None, {}, [1] * (LIMITS.siblings + 1)],
    "flag": [1, None, "true"],
    "dwflag": [0, []],
    "set": [1, "ab", {"a": 1}, None],
    "gset": ["x"],
    "rwset": ["x", None],
    "text": [1, None, ["a"]],
    "list": ["x", None, {}, 1],
    "map": [
        3,
        {"a": 1},
        [{"field": ["a"], "type": "counter"}],
        [{"field": "a", "type": "counter", "value": 1}],
        [{"field": ["a"], "type": "counter", "value": "1"}],
    ],
    "max": [],
    "min": [],
    "hll": [3, "AQykAQ==", {"sketch": 1}, {"sketch": "AQ"}, {"sketch": "AQykAQ==", "more": 1}],
    "zset": ["a", ["a"], [{"member": 1}], [{"member": 1, "score": "1"}], {"a": 1}],
}


def random_operation(type_name: str, random: Random) -> Plain:
    """An operation of a type, drawn from a seeded generator."""
    op, arguments = random.choice(OPERATIONS[type_name])
    return {"op": op, **{name: random.choice(values) for name, values in arguments.items()}}


def all_operations(type_name: str) -> list[Plain]:
    """Every operation of a type there is to try, each as often as it should be chosen."""
    variants = [
        [
            {"op": op, **dict(zip(arguments, values, strict=True))}
            for values in product(*arguments.values())
        ]
        for op, arguments in OPERATIONS[type_name]
    ]
    most = max(map(len, variants))
    return [plain for some in variants for plain in some * (most // len(some))]


def creation(type_name: str) -> Plain:
    """An operation after which an object of the type exists."""
    return all_operations(type_name)[0]
