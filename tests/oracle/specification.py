"""What every operation means: the value of an object, from the causal history alone.

The specification knows events, not records: an event is one operation with the set of events that
were visible where it was issued. Given a set of visible events it says what a reader sees. It
shares no code with what it judges (only the equality and order of JSON values), it is written for
reading rather than for speed, and it is one for all types: what all types have in common (deleting,
clearing, erasing) is said once, what remains of each type is a few lines.

    An event is *undone* when a visible removal has observed it.
    A removal observes what was visible where it was issued, or, given a read context, what that
    read showed of it.

Counters need no more than this: the value is the sum of the steps that nothing has undone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from crdtdb.jsonbytes import encode
from crdtdb.jsonvalue import JsonValue, normalise
from operations import SKETCHED
from oracle.events import (
    WIPES,
    Event,
    EventId,
    Object,
    Path,
    Shown,
    covers,
    distinct,
    in_order,
    members_of,
    named,
    not_observed,
)
from oracle.sequences import is_beyond, show_list, show_text

__all__ = ["SPECIFICATIONS", "is_refused", "show"]

#: Operations that count.
_STEPS: Final = frozenset({"increment", "decrement"})

#: Types whose steps a removal takes out by who made them (`_taken_out`).
_COUNTING: Final = frozenset({"counter", "gcounter"})

#: Types whose objects cannot be divided: a removal by a read context spares them.
_LOGGED: Final = frozenset({"list", "opcounter", "text"})

#: Of these, the types whose leaves a removal cuts: whatever its issuer has seen of them goes.
_CUT: Final = _LOGGED - {"text"}

#: Types of which an operation asserts once more all that was in force where it was issued.
_HANDING_ON: Final = frozenset({"hll"})


def show(name: Object, visible: Iterable[Event]) -> Shown:
    """What a reader sees of the object when exactly these events are visible."""
    return _show(name[1], [event for event in visible if covers(event.target, name)])


def _show(type_name: str, events: list[Event]) -> Shown:
    """What these events make of an object, or a leaf, of a type."""
    if type_name == "map":
        return _map(events)
    if type_name == "zset":
        return _zset(events)
    if type_name == "list":
        return show_list(events)
    if type_name == "text":
        return show_text(events)
    if type_name == "rwset":
        events = _by_name(events)
    wipes = [event for event in events if event.operation["op"] in WIPES]
    rest = [event for event in events if event.operation["op"] not in WIPES]
    standing = not_observed(rest, wipes)
    if type_name in _HANDING_ON:
        standing = _handed_on(standing, rest, wipes)
    if type_name in _COUNTING:
        taken = {step.id for wipe in wipes for step in _taken_out(wipe, rest)}
        standing = [step for step in rest if step.id not in taken]
    return SPECIFICATIONS[type_name](standing)


def _handed_on(standing: list[Event], rest: list[Event], wipes: list[Event]) -> list[Event]:
    """These events, all that was in force where they were issued, and so on."""
    found: dict[EventId, Event] = {}
    left = list(standing)
    while left:
        event = left.pop()
        if event.id not in found:
            found[event.id] = event
            past = [e for e in rest if e.id in event.past]
            left += not_observed(past, [wipe for wipe in wipes if wipe.id in event.past])
    return list(found.values())


# -- the types: given the events that no delete, clear, reset or erase has undone -----------------


def _counter(steps: list[Event]) -> Shown:
    """The sum of all steps."""
    signs = {"increment": 1, "decrement": -1}
    total = sum(signs[e.operation["op"]] * int(e.operation.get("by", 1)) for e in steps)
    return Shown.value(total, bool(steps))


def _bcounter(events: list[Event]) -> Shown:
    """What was added less what was taken, from the greatest `min` on."""
    least = max((create.operation.get("min", 0) for create in named(events, "create")), default=0)
    return Shown.value(least + _balance(events), bool(events))


def _balance(events: Iterable[Event]) -> int:
    """What all increments add, less what all decrements take away."""
    return int(json.loads(_counter([e for e in events if e.operation["op"] in _STEPS]).text))


def _register(writes: list[Event]) -> Shown:
    """Of the writes that no other write has seen, the latest."""
    seen = frozenset[EventId]().union(*(write.past for write in writes))
    unseen = [write for write in writes if write.id not in seen]
    if not unseen:
        return Shown.value(None, False)
    latest = max(unseen, key=lambda write: (write.time, write.id))
    return Shown.value(normalise(latest.operation["value"]), True)


def _mvregister(writes: list[Event]) -> Shown:
    """All writes that no other write has observed: each value once, in order."""
    values = distinct(write.operation["value"] for write in not_observed(writes, writes))
    return Shown.value(values, bool(values))


def _flag(switches: list[Event]) -> Shown:
    """On when some enable was observed by no disable."""
    enables, disables = named(switches, "enable"), named(switches, "disable")
    on = bool(not_observed(enables, disables))
    return Shown.value(on, on)


def _dwflag(switches: list[Event]) -> Shown:
    """On when some enable was observed by no disable, and every disable was seen by an enable."""
    enables, disables = named(switches, "enable"), named(switches, "disable")
    overruled = frozenset[EventId]().union(*(_overruled(enable) for enable in enables))
    standing = [disable for disable in disables if disable.id not in overruled]
    on = bool(not_observed(enables, disables)) and not standing
    return Shown.value(on, on)


def _set(changes: list[Event]) -> Shown:
    """Those members of which some add was observed by no remove."""
    adds, removes = named(changes, "add"), named(changes, "remove")
    present: list[JsonValue] = []
    for add in adds:
        for member in members_of(add):
            against = [remove for remove in removes if _names(remove, member)]
            if not_observed([add], against):
                present.append(member)
    return Shown.members(distinct(present))


def _rwset(changes: list[Event]) -> Shown:
    """Those members of which some add was observed by no remove, and every remove seen by an add.

    A remove overrules adds that it did not see; so does one with a read context that hides them.
    """
    present: list[JsonValue] = []
    for member in distinct(member for change in changes for member in members_of(change)):
        about = [change for change in changes if _names(change, member)]
        adds, removes = named(about, "add"), named(about, "remove")
        at = encode(member)
        overruled = frozenset[EventId]().union(*(_overruled(add, at) for add in adds))
        if all(r.id in overruled for r in removes) and not_observed(adds, removes):
            present.append(member)
    return Shown.members(present)


def _overruled(event: Event, member: bytes = b"") -> frozenset[EventId]:
    """The marks that what asserts something overrules: those that it saw, or counts as after."""
    return event.past.union(one.mark for one in event.missed if one.member == member)


def _by_name(events: list[Event]) -> list[Event]:
    """The same with each clear as what it is to a remove-wins set: a remove of certain members.

    They are those present where it was issued, of each of which it observed an add in force. That
    depends on its past alone, which comes first.
    """
    named: dict[EventId, Event] = {}
    for event in in_order(events):
        named[event.id] = event
        if event.operation["op"] == "clear":
            past = [named[earlier] for earlier in event.past if earlier in named]
            operation = {"op": "remove", "values": _clearable(past, event.observed)}
            named[event.id] = event._replace(operation=operation)
    return list(named.values())


def _clearable(past: list[Event], observed: frozenset[EventId]) -> list[JsonValue]:
    wipes = [event for event in past if event.operation["op"] in WIPES]
    changes = not_observed([e for e in past if e.operation["op"] not in WIPES], wipes)
    members: list[JsonValue] = []
    for member in json.loads(_rwset(changes).text):
        adds = [e for e in named(changes, "add") if _names(e, member)]
        removes = [e for e in named(changes, "remove") if _names(e, member)]
        replaced = frozenset[EventId]().union(*(add.past for add in adds))
        in_force = [add.id for add in not_observed(adds, removes) if add.id not in replaced]
        if observed.intersection(in_force):
            members.append(member)
    return members


def _names(event: Event, member: JsonValue) -> bool:
    """Does an add or remove name the member?"""
    return encode(member) in map(encode, members_of(event))


def _max(writes: list[Event]) -> Shown:
    """The greatest of all values that were set."""
    values = distinct(write.operation["value"] for write in writes)
    return Shown.value(values[-1] if values else None, bool(values))


def _min(writes: list[Event]) -> Shown:
    """The least of all values that were set."""
    values = distinct(write.operation["value"] for write in writes)
    return Shown.value(values[0] if values else None, bool(values))


def _hll(adds: list[Event]) -> Shown:
    """How many different values were taken in. So few are counted exactly."""
    count = len(distinct(value for add in adds for value in _taken(add)))
    return Shown.value(count, count > 0)


def _zset(events: list[Event]) -> Shown:
    """Each member that has a score or an increment in force, and what these add up to.

    A score is in force when no removal has observed it, and no other such has seen it; of several
    the latest counts. An increment is when nothing that removes it or sets the score has taken it.
    """
    entries: list[JsonValue] = []
    changes = [event for event in events if event.operation["op"] in ("add", "increment")]
    for member in distinct(change.operation["member"] for change in changes):
        about = [e for e in events if e.operation.get("member", member) == member]
        adds, increments = named(about, "add"), named(about, "increment")
        removals = [e for e in about if e.operation["op"] in ("remove", *WIPES)]
        standing = not_observed(adds, removals)
        seen = frozenset[EventId]().union(*(add.past for add in standing))
        scores = [add for add in standing if add.id not in seen]
        taken = {e.id for by in (*adds, *removals) for e in _taken_out(by, increments)}
        counted = [Fraction(e.operation.get("by", 1)) for e in increments if e.id not in taken]
        if scores or counted:
            latest = max(scores, key=lambda add: (add.time, add.id), default=None)
            first = Fraction(0 if latest is None else latest.operation["score"])
            entries.append({"member": member, "score": _nearest(first + sum(counted))})
    return Shown.members(entries)


def _map(events: list[Event]) -> Shown:
    """Each leaf is an object of its type; what removes a field deletes all leaves there and below.

    Of several types at a field the first by name is shown, and what lies below it is a `map`.
    """
    fields = {
        (tuple(e.operation["field"]), e.operation["do"]["type"]) for e in named(events, "update")
    }
    leaves: dict[Path, dict[str, JsonValue]] = {}
    size = 0
    for path, type_name in sorted(fields):
        shown = _show(type_name, _at_leaf(events, path, type_name))
        if shown.exists:
            leaves.setdefault(path, {})[type_name] = json.loads(shown.text)
            size += 1 if shown.size is None or type_name in _LOGGED else shown.size
    listed: list[JsonValue] = []
    for path, (first, *others) in ((path, sorted(types)) for path, types in leaves.items()):
        values = leaves[path]
        entry: dict[str, Any] = {"field": list(path), "type": first, "value": values[first]}
        listed.append(entry | ({"others": {o: values[o] for o in others}} if others else {}))
    whole = Shown.value(_nested(leaves, ()), bool(leaves))
    return whole._replace(size=size, leaves=json.dumps(listed, sort_keys=True))


def _nested(leaves: Mapping[Path, Mapping[str, JsonValue]], path: Path) -> JsonValue:
    """What is shown at a field."""
    types = leaves.get(path, {})
    names = {p[len(path)] for p in leaves if len(p) > len(path) and p[: len(path)] == path}
    if types and (not names or min(types) < "map"):
        return types[min(types)]
    return {name: _nested(leaves, (*path, name)) for name in names}


def _at_leaf(events: Iterable[Event], path: Path, type_name: str) -> list[Event]:
    """What concerns one leaf, as operations of its type."""
    found: list[Event] = []
    for event in events:
        at_leaf = (one for one in event.missed if one.leaf == (path, type_name))
        event = event._replace(missed=frozenset(at_leaf))
        operation = event.operation
        if operation["op"] == "update":
            do = operation["do"]
            if (tuple(operation["field"]), do["type"]) == (path, type_name):
                found.append(event._replace(operation={k: v for k, v in do.items() if k != "type"}))
        elif type_name not in _LOGGED or not event.has_context:
            above = tuple(operation.get("field", ()))
            if path[: len(above)] == above:
                found.append(event._replace(operation={"op": "delete"}))
    return [_taking_all(event, found) for event in found] if type_name in _CUT else found


def _taking_all(event: Event, at_leaf: Collection[Event]) -> Event:
    """A removal of a leaf that is cut takes out what was over of it, too, if it takes out more."""
    if not _is_wipe(event):
        return event
    past = [one for one in at_leaf if one.id in event.past]
    wipes = [one for one in past if _is_wipe(one)]
    if not not_observed([one for one in past if one not in wipes], wipes):
        return event
    return event._replace(observed=event.observed | event.over)


def _is_wipe(event: Event) -> bool:
    return event.operation["op"] in WIPES and "index" not in event.operation


def is_refused(type_name: str, asked: Event, events: Iterable[Event]) -> bool:
    """Is there a reason in what these events show not to carry one more operation out?

    It names a position that is not there, or would take out a part of what cannot be divided.
    """
    operation, events = asked.operation, list(events)
    if type_name == "map" and operation["op"] == "update":
        do = operation["do"]
        if do["op"] != "delete" and _is_below_a_leaf(tuple(operation["field"]), events):
            return True
        if do["type"] in _LOGGED and asked.has_context:
            return True
        leaf = _at_leaf(events, tuple(operation["field"]), do["type"])
        return is_refused(do["type"], asked._replace(operation=do), leaf)
    if type_name == "map":
        return asked.has_context and any(
            _show(leaf_type, _at_leaf(events, path, leaf_type)).exists
            for path, leaf_type in _leaves_removed(operation, events)
        )
    return type_name in ("list", "text") and is_beyond(
        operation, _show(type_name, events).size or 0
    )


def _is_below_a_leaf(path: Path, events: list[Event]) -> bool:
    """Would a leaf there be below another, and is there none yet?"""
    updates = (event.operation for event in named(events, "update"))
    leaves = {(tuple(update["field"]), update["do"]["type"]) for update in updates}
    shown = {at for at, kind in leaves if _show(kind, _at_leaf(events, at, kind)).exists}
    is_above = any(path[:length] in shown for length in range(1, len(path)))
    return is_above and not any(at[: len(path)] == path for at in shown)


def _leaves_removed(operation: Mapping[str, Any], events: Iterable[Event]) -> set[tuple[Path, str]]:
    """The leaves that cannot be divided, at a field and below."""
    above = tuple(operation.get("field", ()))
    updates = (event.operation for event in named(events, "update"))
    leaves = {(tuple(update["field"]), update["do"]["type"]) for update in updates}
    return {leaf for leaf in leaves if leaf[0][: len(above)] == above and leaf[1] in _LOGGED}


def _taken_out(by: Event, increments: list[Event]) -> Iterator[Event]:
    """The increments that an event takes out: a replica's, if it has observed the last of them."""
    for writer in {increment.id[0] for increment in increments}:
        theirs = [e for e in increments if e.id[0] == writer and e.id in by.past]
        if by.operation["op"] == "add" or all(e.id in by.observed for e in theirs):
            yield from theirs


def _nearest(exact: Fraction) -> JsonValue:
    """The number that JSON has for it, or the double next to it."""
    return normalise(int(exact) if exact.denominator == 1 else float(exact))


def _taken(event: Event) -> list[JsonValue]:
    """The values that an add names, or of which a merge brings the sketch."""
    return [SKETCHED] if event.operation["op"] == "merge" else members_of(event)


SPECIFICATIONS: Final[Mapping[str, Callable[[list[Event]], Shown]]] = {
    "bcounter": _bcounter,
    "counter": _counter,
    "dwflag": _dwflag,
    "flag": _flag,
    "gcounter": _counter,
    "gset": _set,
    "hll": _hll,
    "list": show_list,
    "map": _map,
    "max": _max,
    "min": _min,
    "mvregister": _mvregister,
    "opcounter": _counter,
    "register": _register,
    "rwset": _rwset,
    "set": _set,
    "text": show_text,
    "zset": _zset,
}
