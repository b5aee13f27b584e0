"""What a list or a text is, from its causal history: what was put in where, and what is gone.

An element of a list hangs below another one in a tree (Fugue, as its paper tells it); a text is
told character by character (`oracle.yata`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from crdtdb.jsonvalue import JsonValue
from crdtdb.types._yjs import client_of
from oracle.events import ElementId, Event, EventId, Shown, in_order, members_of, not_observed
from oracle.yata import Sequence

__all__ = ["is_beyond", "show_list", "show_text"]


class _Node(NamedTuple):
    """An element of a list: an event and a number in it, below another one (None: at the top)."""

    id: ElementId
    above: ElementId | None
    is_right: bool
    value: JsonValue
    #: Among right children, later ones come first.
    generation: int = 0


def show_list(events: list[Event]) -> Shown:
    """The elements in force, in the order of the tree that they were put into."""
    placed: dict[EventId, list[_Node]] = {}
    gone: dict[EventId, set[ElementId]] = {}
    for event in in_order(events):
        operation = event.operation
        past = [earlier for earlier in events if earlier.id in event.past]
        shown, nodes = _elements(past, placed, gone)
        if operation["op"] == "insert":
            held = {one: node for one, node in nodes.items() if one not in event.let_go}
            placed[event.id] = _put_in(event, shown, held)
        elif "index" in operation:
            first = operation["index"]
            taken = shown[first : first + operation.get("count", 1)]
            gone[event.id] = {node.id for node in taken}
    elements, _ = _elements(events, placed, gone)
    return Shown.members([{"id": _element_id(e), "value": e.value} for e in elements])


def _elements(
    events: list[Event],
    placed: Mapping[EventId, list[_Node]],
    gone: Mapping[EventId, set[ElementId]],
) -> tuple[list[_Node], dict[ElementId, _Node]]:
    """The elements that these events show, in order, and all nodes of the tree."""
    wipes = [e for e in events if e.id not in placed and e.id not in gone]
    standing = not_observed([e for e in events if e.id in placed or e.id in gone], wipes)
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
    values = members_of(event)
    built: list[_Node] = []
    for number, value in enumerate(values, 1):
        one = (*event.id, number if len(values) > 1 else 0)
        built.append(_Node(one, above, is_right, value, generation))
        above, is_right, generation = one, True, 0
    return built


def show_text(events: list[Event]) -> Shown:
    """The characters that nothing has deleted."""
    text = Sequence()
    for event in in_order(events):
        operation, visible = event.operation, (event.past | event.over).__contains__
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


def is_beyond(operation: Mapping[str, Any], size: int) -> bool:
    """Does an operation name a position that a list or text of this size does not have?"""
    if "index" not in operation:
        return False
    needed = 0
    if operation["op"] == "delete":
        needed = operation.get("length", operation.get("count", 1))
    return bool(operation["index"] + needed > size)
