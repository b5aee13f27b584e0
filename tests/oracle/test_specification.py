"""What the specification itself got wrong once."""

from __future__ import annotations

from itertools import permutations

from oracle.events import Event, EventId, Scope
from oracle.specification import show

_NAME = ("shop", "rwset", "k")


def test_an_erase_of_many_objects_comes_before_a_clear_that_has_seen_it() -> None:
    """Seed 59 of the simulation, among others: the specification asked for a member too many.

    The erase has other objects in its past, so its past is the longest of all. It happened before
    the clear all the same, which so finds a member: one that the remove does not hide any more.
    """
    remove, erase, clear, add = (1, 1), (1, 20), (1, 21), (2, 1)
    others = frozenset[EventId]((1, number) for number in range(2, 20))
    nothing = frozenset[EventId]()
    before_erase, before_clear = others | {remove}, frozenset({remove, erase, add})
    events = [
        Event(remove, _NAME, {"op": "remove", "value": "x"}, nothing, nothing, 1),
        Event(erase, Scope("shop"), {"op": "erase"}, before_erase, before_erase, 2),
        Event(add, _NAME, {"op": "add", "value": "x"}, nothing, nothing, 3),
        Event(clear, _NAME, {"op": "clear"}, before_clear, before_clear, 4),
    ]
    for order in permutations(events):
        assert show(_NAME, order).text == "[]"
        assert show(_NAME, [event for event in order if event.id != clear]).text == '["x"]'
