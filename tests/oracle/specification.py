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
from typing import Any, Final, NamedTuple, TypeAlias

from crdtdb.jsonbytes import encode
from crdtdb.jsonvalue import JsonValue, normalise
from crdtdb.types._yjs import client_of
from operations import SKETCHED
from oracle.yata import Sequence

__all__ = [
    "SPECIFICATIONS",
    "ElementId",
    "Event",
    "EventId",
    "Missed",
    "Object",
    "Scope",
    "Shown",
    "covers",
    "is_beyond",
    "is_refused",
    "show",
]

#: (who, how many-th of theirs).
EventId: TypeAlias = tuple[int, int]
#: Of a list: the event that put it in, and the how many-th of that it is (0: the only one).
ElementId: TypeAlias = tuple[int, int, int]
#: (bucket, type, key).
Object: TypeAlias = tuple[str, str, str]
_Path: TypeAlias = tuple[str, ...]


class Scope(NamedTuple):
    """What an erase covers: a bucket, a type in it, or the keys of that type with one beginning."""

    bucket: str
    type: str | None = None
    key_start: str = ""


class Missed(NamedTuple):
    """A mark that was taken out for idle, where the issuer of an event was no member, and apart.

    What it wrote at that place counts as after the mark.
    """

    mark: EventId
    #: Of a map: the field and type of the leaf.
    leaf: tuple[_Path, str] | None
    #: Of a set: the member, in the order of JSON values. Else nothing.
    member: bytes = b""


class Event(NamedTuple):
    """One operation that took effect somewhere."""

    id: EventId
    target: Object | Scope
    #: As users write it, `{"op": …}`; of an erase, `{"op": "erase"}`.
    operation: Mapping[str, Any]
    #: The events visible where and when it was issued.
    past: frozenset[EventId]
    #: Those that it may remove: all of `past`, or what its read context shows of it.
    observed: frozenset[EventId]
    #: When, by the issuer's hybrid logical clock. Decides between concurrent register writes.
    time: int
    #: Elements of a list that the issuer had let go, so that nothing could be put beside them.
    let_go: frozenset[ElementId] = frozenset()
    #: Did it name what it may remove, by a read context?
    has_context: bool = False
    #: What was over then, for a deadline had come. It is not in `past`, but for texts: where
    #: something was taken out, its place stays.
    over: frozenset[EventId] = frozenset()
    missed: frozenset[Missed] = frozenset()


class Shown(NamedTuple):
    """What a reader sees of one object."""

    #: JSON text, so that 1, 1.0 and true are told apart.
    text: str
    exists: bool
    #: The number of members, of a collection.
    size: int | None
    #: Of a map: each leaf by itself, as JSON text.
    leaves: str = ""

    @classmethod
    def value(cls, value: JsonValue, exists: bool) -> Shown:
        """An object that reads as one value."""
        return cls(json.dumps(value, sort_keys=True), exists, None)

    @classmethod
    def members(cls, members: list[JsonValue]) -> Shown:
        """A collection; it exists while it has members."""
        return cls(json.dumps(members, sort_keys=True), bool(members), len(members))


#: Operations that undo everything they observed of an object, whatever its type.
_WIPES: Final = frozenset({"delete", "clear", "reset", "erase"})

#: Operations that count.
_STEPS: Final = frozenset({"increment", "decrement"})

#: Types whose steps a removal takes out by who made them (`_taken_out`).
_COUNTING: Final = frozenset({"counter", "gcounter"})

#: Types whose objects cannot be divided: a removal by a read context spares them.
_LOGGED: Final = frozenset({"list", "opcounter", "text"})

#: Types of which an operation asserts once more all that was in force where it was issued.
_HANDING_ON: Final = frozenset({"hll"})


def covers(target: Object | Scope, name: Object) -> bool:
    """Is this object the target, or within it?"""
    if not isinstance(target, Scope):
        return target == name
    bucket, type_name, key = name
    return (
        target.bucket == bucket
        and target.type in (None, type_name)
        and key.startswith(target.key_start)
    )


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
        return _list(events)
    if type_name == "text":
        return _text(events)
    if type_name == "rwset":
        events = _by_name(events)
    wipes = [event for event in events if event.operation["op"] in _WIPES]
    rest = [event for event in events if event.operation["op"] not in _WIPES]
    standing = _not_observed(rest, wipes)
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
            left += _not_observed(past, [wipe for wipe in wipes if wipe.id in event.past])
    return list(found.values())


def _not_observed(events: Iterable[Event], removals: Collection[Event]) -> list[Event]:
    return [e for e in events if not any(e.id in removal.observed for removal in removals)]


def _in_order(events: Collection[Event]) -> list[Event]:
    """Each after all that its issuer had seen.

    Whatever happened before an event has fewer of these events in its past. (`past` itself is no
    measure: an erase has other objects in it, too.)
    """
    all_ids = {event.id for event in events}
    return sorted(events, key=lambda event: len(all_ids & (event.past | event.over)))


def _named(events: Iterable[Event], op: str) -> list[Event]:
    return [event for event in events if event.operation["op"] == op]


# -- the types: given the events that no delete, clear, reset or erase has undone -----------------


def _counter(steps: list[Event]) -> Shown:
    """The sum of all steps."""
    signs = {"increment": 1, "decrement": -1}
    total = sum(signs[e.operation["op"]] * int(e.operation.get("by", 1)) for e in steps)
    return Shown.value(total, bool(steps))


def _bcounter(events: list[Event]) -> Shown:
    """What was added less what was taken, from the greatest `min` on."""
    least = max((create.operation.get("min", 0) for create in _named(events, "create")), default=0)
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
    values = _distinct(write.operation["value"] for write in _not_observed(writes, writes))
    return Shown.value(values, bool(values))


def _flag(switches: list[Event]) -> Shown:
    """On when some enable was observed by no disable."""
    enables, disables = _named(switches, "enable"), _named(switches, "disable")
    on = bool(_not_observed(enables, disables))
    return Shown.value(on, on)


def _dwflag(switches: list[Event]) -> Shown:
    """On when some enable was observed by no disable, and every disable was seen by an enable."""
    enables, disables = _named(switches, "enable"), _named(switches, "disable")
    overruled = frozenset[EventId]().union(*(_overruled(enable) for enable in enables))
    standing = [disable for disable in disables if disable.id not in overruled]
    on = bool(_not_observed(enables, disables)) and not standing
    return Shown.value(on, on)


def _set(changes: list[Event]) -> Shown:
    """Those members of which some add was observed by no remove."""
    adds, removes = _named(changes, "add"), _named(changes, "remove")
    present: list[JsonValue] = []
    for add in adds:
        for member in _members(add):
            against = [remove for remove in removes if _names(remove, member)]
            if _not_observed([add], against):
                present.append(member)
    return Shown.members(_distinct(present))


def _rwset(changes: list[Event]) -> Shown:
    """Those members of which some add was observed by no remove, and every remove seen by an add.

    A remove overrules adds that it did not see; so does one with a read context that hides them.
    """
    present: list[JsonValue] = []
    for member in _distinct(member for change in changes for member in _members(change)):
        about = [change for change in changes if _names(change, member)]
        adds, removes = _named(about, "add"), _named(about, "remove")
        at = encode(member)
        overruled = frozenset[EventId]().union(*(_overruled(add, at) for add in adds))
        if all(r.id in overruled for r in removes) and _not_observed(adds, removes):
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
    for event in _in_order(events):
        named[event.id] = event
        if event.operation["op"] == "clear":
            past = [named[earlier] for earlier in event.past if earlier in named]
            operation = {"op": "remove", "values": _clearable(past, event.observed)}
            named[event.id] = event._replace(operation=operation)
    return list(named.values())


def _clearable(past: list[Event], observed: frozenset[EventId]) -> list[JsonValue]:
    wipes = [event for event in past if event.operation["op"] in _WIPES]
    changes = _not_observed([e for e in past if e.operation["op"] not in _WIPES], wipes)
    members: list[JsonValue] = []
    for member in json.loads(_rwset(changes).text):
        adds = [e for e in _named(changes, "add") if _names(e, member)]
        removes = [e for e in _named(changes, "remove") if _names(e, member)]
        replaced = frozenset[EventId]().union(*(add.past for add in adds))
        in_force = [add.id for add in _not_observed(adds, removes) if add.id not in replaced]
        if observed.intersection(in_force):
            members.append(member)
    return members


def _names(event: Event, member: JsonValue) -> bool:
    """Does an add or remove name the member?"""
    return encode(member) in map(encode, _members(event))


def _max(writes: list[Event]) -> Shown:
    """The greatest of all values that were set."""
    values = _distinct(write.operation["value"] for write in writes)
    return Shown.value(values[-1] if values else None, bool(values))


def _min(writes: list[Event]) -> Shown:
    """The least of all values that were set."""
    values = _distinct(write.operation["value"] for write in writes)
    return Shown.value(values[0] if values else None, bool(values))


def _hll(adds: list[Event]) -> Shown:
    """How many different values were taken in. So few are counted exactly."""
    count = len(_distinct(value for add in adds for value in _taken(add)))
    return Shown.value(count, count > 0)


def _zset(events: list[Event]) -> Shown:
    """Each member that has a score or an increment in force, and what these add up to.

    A score is in force when no removal has observed it, and no other such has seen it; of several
    the latest counts. An increment is when nothing that removes it or sets the score has taken it.
    """
    entries: list[JsonValue] = []
    changes = [event for event in events if event.operation["op"] in ("add", "increment")]
    for member in _distinct(change.operation["member"] for change in changes):
        about = [e for e in events if e.operation.get("member", member) == member]
        adds, increments = _named(about, "add"), _named(about, "increment")
        removals = [e for e in about if e.operation["op"] in ("remove", *_WIPES)]
        standing = _not_observed(adds, removals)
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
        (tuple(e.operation["field"]), e.operation["do"]["type"]) for e in _named(events, "update")
    }
    leaves: dict[_Path, dict[str, JsonValue]] = {}
    size = 0
    for path, type_name in sorted(fields):
        shown = _show(type_name, list(_at_leaf(events, path, type_name)))
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


def _nested(leaves: Mapping[_Path, Mapping[str, JsonValue]], path: _Path) -> JsonValue:
    """What is shown at a field."""
    types = leaves.get(path, {})
    names = {p[len(path)] for p in leaves if len(p) > len(path) and p[: len(path)] == path}
    if types and (not names or min(types) < "map"):
        return types[min(types)]
    return {name: _nested(leaves, (*path, name)) for name in names}


def _at_leaf(events: Iterable[Event], path: _Path, type_name: str) -> Iterator[Event]:
    """What concerns one leaf, as operations of its type."""
    for event in events:
        at_leaf = (one for one in event.missed if one.leaf == (path, type_name))
        event = event._replace(missed=frozenset(at_leaf))
        operation = event.operation
        if operation["op"] == "update":
            do = operation["do"]
            if (tuple(operation["field"]), do["type"]) == (path, type_name):
                yield event._replace(operation={k: v for k, v in do.items() if k != "type"})
        elif type_name not in _LOGGED or not event.has_context:
            above = tuple(operation.get("field", ()))
            if path[: len(above)] == above:
                yield event._replace(operation={"op": "delete"})


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
            _show(leaf_type, list(_at_leaf(events, path, leaf_type))).exists
            for path, leaf_type in _leaves_removed(operation, events)
        )
    return type_name in ("list", "text") and is_beyond(
        operation, _show(type_name, events).size or 0
    )


def _is_below_a_leaf(path: _Path, events: list[Event]) -> bool:
    """Would a leaf there be below another, and is there none yet?"""
    updates = (event.operation for event in _named(events, "update"))
    leaves = {(tuple(update["field"]), update["do"]["type"]) for update in updates}
    shown = {at for at, kind in leaves if _show(kind, list(_at_leaf(events, at, kind))).exists}
    is_above = any(path[:length] in shown for length in range(1, len(path)))
    return is_above and not any(at[: len(path)] == path for at in shown)


def _leaves_removed(
    operation: Mapping[str, Any], events: Iterable[Event]
) -> set[tuple[_Path, str]]:
    """The leaves that cannot be divided, at a field and below."""
    above = tuple(operation.get("field", ()))
    updates = (event.operation for event in _named(events, "update"))
    leaves = {(tuple(update["field"]), update["do"]["type"]) for update in updates}
    return {leaf for leaf in leaves if leaf[0][: len(above)] == above and leaf[1] in _LOGGED}


def is_beyond(operation: Mapping[str, Any], size: int) -> bool:
    """Does an operation name a position that a list or text of this size does not have?"""
    if "index" not in operation:
        return False
    needed = 0
    if operation["op"] == "delete":
        needed = operation.get("length", operation.get("count", 1))
    return bool(operation["index"] + needed > size)


def _taken_out(by: Event, increments: list[Event]) -> Iterator[Event]:
    """The increments that an event takes out: a replica's, if it has observed the last of them."""
    for writer in {increment.id[0] for increment in increments}:
        theirs = [e for e in increments if e.id[0] == writer and e.id in by.past]
        if by.operation["op"] == "add" or all(e.id in by.observed for e in theirs):
            yield from theirs


def _nearest(exact: Fraction) -> JsonValue:
    """The number that JSON has for it, or the double next to it."""
    return normalise(int(exact) if exact.denominator == 1 else float(exact))


class _Node(NamedTuple):
    """An element of a list: an event and a number in it, below another one (None: at the top)."""

    id: ElementId
    above: ElementId | None
    is_right: bool
    value: JsonValue
    #: Among right children, later ones come first.
    generation: int = 0


def _list(events: list[Event]) -> Shown:
    """The elements in force, in the order of the tree that they were put into."""
    placed: dict[EventId, list[_Node]] = {}
    gone: dict[EventId, set[ElementId]] = {}
    for event in _in_order(events):
        operation = event.operation
        past = [earlier for earlier in events if earlier.id in event.past]
        shown, nodes = _elements(past, placed, gone)
        if operation["op"] == "insert":
            held = {one: node for one, node in nodes.items() if one not in event.let_go}
            placed[event.id] = _put_in(event, shown, held)
        elif "index" in operation:
            first = operation["index"]
            named = shown[first : first + operation.get("count", 1)]
            gone[event.id] = {node.id for node in named}
    elements, _ = _elements(events, placed, gone)
    return Shown.members([{"id": _element_id(e), "value": e.value} for e in elements])


def _elements(
    events: list[Event],
    placed: Mapping[EventId, list[_Node]],
    gone: Mapping[EventId, set[ElementId]],
) -> tuple[list[_Node], dict[ElementId, _Node]]:
    """The elements that these events show, in order, and all nodes of the tree."""
    wipes = [e for e in events if e.id not in placed and e.id not in gone]
    standing = _not_observed([e for e in events if e.id in placed or e.id in gone], wipes)
    nodes = {node.id: node for event in standing for node in placed.get(event.id, ())}
    deleted = set().union(*(gone.get(event.id, ()) for event in standing))
    # What hung below an element that is gone with its operation stays together, at the top.
    for node in list(nodes.values()):
        if node.above is not None and node.above not in nodes:
            nodes[node.above] = _Node(node.above, None, True, None)
            deleted.add(node.above)
    shown = [node for node in _walk(nodes, None) if node.id not in deleted]
    return shown, nodes


def _walk(nodes: Mapping[ElementId, _Node], above: ElementId | None) -> list[_Node]:
    """What hangs below: left children, the node itself, right children.

    Siblings stand by their ids, later generations first.
    """
    below = [node for node in nodes.values() if node.above == above]
    below.sort(key=lambda node: (-node.generation, node.id))
    left = [one for node in below if not node.is_right for one in _walk(nodes, node.id)]
    right = [one for node in below if node.is_right for one in _walk(nodes, node.id)]
    return [*left, *([] if above is None else [nodes[above]]), *right]


def _put_in(event: Event, shown: list[_Node], nodes: Mapping[ElementId, _Node]) -> list[_Node]:
    """An insert hangs below the element before its place, or left below the one behind it.

    Left below the one behind it, if that comes next in the tree and hangs below the one before.
    Where deleted ones come next that hang there, it is of a later generation than all of these.
    """
    index = event.operation.get("index", len(shown))
    before = shown[index - 1].id if index else None
    order = _walk(nodes, None)
    position = 0 if before is None else [node.id for node in order].index(before) + 1
    behind = order[position].id if position < len(order) else None
    above, is_right, generation = before, True, 0
    standing = [n.generation for n in nodes.values() if n.above == before and n.is_right]
    if standing and behind is not None and index < len(shown) and behind == shown[index].id:
        above, is_right = behind, False
    elif standing:
        generation = max(standing) + 1
    values = _members(event)
    built: list[_Node] = []
    for number, value in enumerate(values, 1):
        one = (*event.id, number if len(values) > 1 else 0)
        built.append(_Node(one, above, is_right, value, generation))
        above, is_right, generation = one, True, 0
    return built


def _text(events: list[Event]) -> Shown:
    """The characters that nothing has deleted."""
    text = Sequence()
    for event in _in_order(events):
        operation, visible = event.operation, event.past.__contains__
        shown = text.shown(visible, event.over.__contains__)
        if operation["op"] == "insert":
            place = operation.get("index", len(shown))
            behind = shown[place] if place < len(shown) else None
            text.put_in(behind, operation["text"], client_of(event.id[0]), event.id, visible)
        elif operation["op"] != "update":  # an editor that typed nothing
            first = operation.get("index", 0)
            last = first + operation["length"] if "index" in operation else len(shown)
            text.delete(shown[first:last], event.id)
    all_ids = {event.id for event in events}
    value = "".join(character.text for character in text.shown(all_ids.__contains__))
    return Shown.value(value, bool(value))._replace(size=len(value))


def _element_id(node: _Node) -> str:
    incarnation, counter, number = node.id
    return f"{incarnation:016x}:{counter}" + (f".{number}" if number else "")


def _taken(event: Event) -> list[JsonValue]:
    """The values that an add names, or of which a merge brings the sketch."""
    return [SKETCHED] if event.operation["op"] == "merge" else _members(event)


def _members(event: Event) -> list[JsonValue]:
    """The members that an add or remove names."""
    operation = event.operation
    named = operation["values"] if "values" in operation else [operation["value"]]
    return [normalise(member) for member in named]


def _distinct(values: Iterable[JsonValue]) -> list[JsonValue]:
    """Equal values once, in the order of JSON values."""
    by_order = {encode(value): value for value in map(normalise, values)}
    return [by_order[order] for order in sorted(by_order)]


SPECIFICATIONS: Final[Mapping[str, Callable[[list[Event]], Shown]]] = {
    "bcounter": _bcounter,
    "counter": _counter,
    "dwflag": _dwflag,
    "flag": _flag,
    "gcounter": _counter,
    "gset": _set,
    "hll": _hll,
    "list": _list,
    "map": _map,
    "max": _max,
    "min": _min,
    "mvregister": _mvregister,
    "opcounter": _counter,
    "register": _register,
    "rwset": _rwset,
    "set": _set,
    "text": _text,
    "zset": _zset,
}
