"""Which part of an object a read asks for.

The same parameters stand in a query, as text, and in a transaction's reads, as JSON. Both become
one mapping of parsed values first, and one set of rules decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from crdtdb import jsonvalue
from crdtdb.errors import BadRequest, Field, InvalidOperation, TooLarge
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.query import WHOLE, Query, check_limit

__all__ = [
    "READ_PARAMETERS",
    "Part",
    "boolean",
    "key_start",
    "part_of_document",
    "part_of_query",
    "whole_number",
]

_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS: Final = {"true": True, "false": False}


class Part(NamedTuple):
    """A page of an object (or all of it), or one member."""

    query: Query = WHOLE
    #: The member asked for, alone in a list; empty for a page.
    member: tuple[JsonValue, ...] = ()


_ALL: Final = Part()


def whole_number(text: str, field: str) -> int:
    """A number in a query. Raises BadRequest."""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise BadRequest(
            f"`{field}` is a whole number in decimal digits", Field(field, "not a whole number")
        )
    return int(text)


def boolean(text: str, field: str) -> bool:
    """A truth value in a query. Raises BadRequest."""
    value = _BOOLEANS.get(text)
    if value is None:
        raise BadRequest(f"`{field}` is true or false", Field(field, "neither true nor false"))
    return value


def key_start(query: Mapping[str, str]) -> str:
    """What keys must begin with, by the parameter `prefix`. Raises BadRequest."""
    start = query.get("prefix", "")
    if "\0" in start or len(start.encode()) > LIMITS.key_bytes:
        raise BadRequest(
            "no key begins so: keys have no U+0000 and are bounded in length",
            Field("prefix", "no possible beginning of a key", LIMITS.key_bytes),
        )
    return start


def _text(text: str, _field: str) -> str:
    return text


def _json(text: str, field: str) -> JsonValue:
    try:
        return jsonvalue.parse(text)
    except BadRequest as error:
        raise BadRequest(
            f"`{field}` is JSON text (a string needs its quotes). {error.detail}",
            *(Field(field, wrong.message, wrong.limit) for wrong in error.fields),
        ) from error


_READERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "limit": whole_number,
    "after": _text,
    "from": _json,
    "to": _json,
    "reverse": boolean,
    "member": _json,
}
#: The names of the parameters of a read.
READ_PARAMETERS: Final = frozenset(_READERS)


def part_of_query(type_name: str, query: Mapping[str, str]) -> Part:
    """The part that a URL's query asks for. Raises problems that name the parameter."""
    if not query:
        return _ALL
    values = {name: _READERS[name](text, name) for name, text in query.items()}
    return part_of_document(type_name, values)


def part_of_document(type_name: str, values: Mapping[str, Any], field: str = "") -> Part:
    """The part that parsed parameters ask for. `field` says where in the request they stand."""
    if not values:
        return _ALL
    at = f"{field}." if field else ""
    for name in values:
        if name not in READ_PARAMETERS:
            raise BadRequest(f"a read has no parameter {name!r}", Field(at + name, "unknown"))
        if not type_named(type_name).collection:
            raise InvalidOperation(
                f"a {type_name} has no members; read it whole",
                Field(at + name, "not a collection"),
            )
    if "member" in values:
        if len(values) > 1:
            raise BadRequest(
                "`member` asks for one member, without the parameters of a page",
                Field(at + "member", "given together with others"),
            )
        _encoded(values["member"], at + "member")
        return Part(member=(values["member"],))
    query = Query(
        limit=_typed(values, "limit", int, LIMITS.page_items_default, at),
        after=_typed(values, "after", str, None, at),
        start=_encoded(values["from"], at + "from") if "from" in values else None,
        end=_encoded(values["to"], at + "to") if "to" in values else None,
        reverse=_typed(values, "reverse", bool, False, at),
    )
    check_limit(query.limit)
    return Part(query)


def _typed(values: Mapping[str, Any], name: str, kind: type, default: Any, at: str) -> Any:
    value = values.get(name, default)
    if name in values and type(value) is not kind:
        raise BadRequest(
            f"`{at}{name}` has the wrong JSON type", Field(at + name, f"expected `{kind.__name__}`")
        )
    return value


def _encoded(value: JsonValue, field: str) -> bytes:
    encoded = jsonvalue.encode(value)
    if len(encoded) > LIMITS.member_bytes:
        raise TooLarge(
            f"no member takes {len(encoded)} bytes; they have at most {LIMITS.member_bytes}",
            Field(field, "too large", LIMITS.member_bytes),
        )
    return encoded
