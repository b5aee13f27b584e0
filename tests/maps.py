"""What a reader sees of a map, who reads it page by page."""

from __future__ import annotations

import json

from crdtdb.address import ObjectName
from crdtdb.fields import Leaf, documents, nested, read_leaves
from crdtdb.jsonvalue import JsonValue
from crdtdb.reading import PageQuery, Reading
from oracle.events import Shown

__all__ = ["all_leaves", "show_map"]


def show_map(reading: Reading, name: ObjectName, limit: int) -> Shown:
    """All of it, in pages of so many records, in the specification's terms."""
    head = reading.head(name.prefix)
    leaves = json.dumps(all_leaves(reading, name, limit), sort_keys=True)
    whole = Shown.value(_whole(reading, name, limit), head.exists)
    return whole._replace(size=head.size, leaves=leaves)


def all_leaves(reading: Reading, name: ObjectName, limit: int) -> list[JsonValue]:
    """The leaves of all pages, each collection put together again."""
    page = read_leaves(reading, name, PageQuery(limit))
    leaves = page.leaves
    while page.position is not None:
        page = read_leaves(reading, name, PageQuery(limit, page.position))
        first, *rest = page.leaves
        if first[:2] == leaves[-1][:2]:
            leaves[-1] = Leaf(*first[:2], _merged(leaves[-1].value, first.value))
            leaves += rest
        else:
            leaves += page.leaves
    return documents(leaves)


def _whole(reading: Reading, name: ObjectName, limit: int) -> JsonValue:
    """The nested values of all pages, merged."""
    page = read_leaves(reading, name, PageQuery(limit))
    whole = nested(reading, name, page)
    while page.position is not None:
        page = read_leaves(reading, name, PageQuery(limit, page.position))
        whole = _merged(whole, nested(reading, name, page))
    return whole


def _merged(one: JsonValue, other: JsonValue) -> JsonValue:
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: _merged(one[key], other[key]) for key in one.keys() & other.keys()}
        return {**one, **other, **both}
    return one + other if isinstance(one, list) and isinstance(other, list) else other
