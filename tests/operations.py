"""Operations to try on each type: few, close to each other, so that concurrent ones meet.

One description serves both ways of choosing: by Hypothesis from a list of all (the laws, which
shrink) and by a seeded `random.Random` (executions, which are fast). It is the only place in the
shared suites that names a type; a test fails for a type of the catalogue that is missing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import Any, Final, TypeAlias

__all__ = ["OPERATIONS", "Plain", "all_operations", "creation", "random_operation"]

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

#: Type → its operations, each as often as it should be chosen. The first brings an object into
#: being.
OPERATIONS: Final[Mapping[str, Sequence[tuple[str, _Arguments]]]] = {
    "counter": (*_COUNT, ("delete", {})),
    "dwflag": (*_SWITCH, *_SWITCH, ("delete", {})),
    "flag": (*_SWITCH, *_SWITCH, ("delete", {})),
    "gcounter": (("increment", {"by": _STEPS}), ("increment", {}), ("delete", {})),
    "gset": (*_ADD, *_ADD, ("delete", {})),
    "mvregister": (*(("set", {"value": _VALUES}),) * 4, ("delete", {})),
    "opcounter": (*_COUNT, ("delete", {})),
    "register": (*(("set", {"value": _VALUES}),) * 4, ("delete", {})),
    "set": (*_ADD, *_ADD, *_REMOVE, ("clear", {}), ("delete", {})),
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
