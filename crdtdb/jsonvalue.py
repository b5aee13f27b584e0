"""JSON values as crdtdb understands them: what is accepted, what is equal, what comes first.

A set decides membership, a register decides a conflict and a scan decides its next page by
comparing values, on every replica for ever. So "equal" and "less" must not depend on how a client
happened to write a value, nor on the JSON library of the day. This module answers both once:

- **Normalised values.** Numbers that are mathematically equal are one value: an integral float
  within the integer range becomes an `int` (`1.0`, `1e0` → `1`; `-0.0` → `0`). A number written
  with a fraction or an exponent means the double nearest to it. Whatever two JSON libraries could
  read differently (duplicate keys, lone surrogates, huge numbers, NaN) is refused, never repaired.
  `parse` is the only way in for text, `normalise` the only way in for Python values. (A request is
  more than a value: `parse_as_written` leaves its numbers to whoever knows which are values.)
- **One order**: null < false < true < numbers < strings < arrays < objects. Numbers compare
  exactly, strings by their UTF-8 bytes, arrays element by element, objects as their sequence of
  (key, value) pairs in key order; a proper prefix comes first.

`crdtdb.jsonbytes` writes values as bytes in that order.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Final, TypeAlias, cast

import orjson

from crdtdb.errors import BadRequest, Field, shortened
from crdtdb.limits import LIMITS

__all__ = [
    "DOCUMENT_DEPTH",
    "INT_MAX",
    "INT_MIN",
    "JsonValue",
    "checked",
    "dump",
    "has_more_elements",
    "load",
    "nesting",
    "normalise",
    "parse",
    "parse_as_written",
    "parse_document",
]

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1
_INT_RANGE: Final = "-2^63 … 2^64-1"
#: Longer than any integer in range, so a hostile one is refused before it is converted.
_INT_DIGITS: Final = len(str(INT_MAX))

_ELEMENT_MARKS: Final = (b",", b"[", b"{")
_BRACKET: Final = re.compile(rb"[\[\]{}]")
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class _Refusal(Exception):
    """Why a value is refused; its path grows from the inside out while the walk unwinds.

    The parser's hooks also put one in the place of what they refuse, for the walk to find there.
    """

    def __init__(self, message: str, limit: int | str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.limit = limit
        self.path = ""

    def inside(self, step: str) -> _Refusal:
        self.path = step + self.path
        return self

    def problem(self) -> BadRequest:
        path = "$" + self.path
        return BadRequest(
            f"The JSON value is refused at {path}: {self.message}.",
            Field(path, self.message, self.limit),
        )


def _too_deep() -> _Refusal:
    return _Refusal(f"nested deeper than {LIMITS.json_depth} levels", LIMITS.json_depth)


def _out_of_range() -> _Refusal:
    return _Refusal(f"integers must be within {_INT_RANGE}", _INT_RANGE)


def _quoted(key: str) -> str:
    """A key as it can be shown: bounded, and pure ASCII whatever is in it."""
    return json.dumps(shortened(key))


def _step(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{_quoted(key)}]"


def _read_integer(digits: str) -> int | _Refusal:
    return int(digits) if len(digits) <= _INT_DIGITS else _out_of_range()


def _read_object(pairs: list[tuple[str, object]]) -> dict[str, object] | _Refusal:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    met: set[str] = set()
    for key, _ in pairs:
        if key in met:
            break
        met.add(key)
    return _Refusal(f"duplicate key {_quoted(key)}")


#: So many levels of a document may be around a value: a transaction, its list, an update, …
_AROUND: Final = 8
#: So many levels has a document at most.
DOCUMENT_DEPTH: Final = LIMITS.json_depth + _AROUND
#: What the fast reader could not read.
_UNREAD: Final = object()
_SIMPLE_KINDS: Final = frozenset({str, int})
#: More digits than integers in range may have, or close to it.
_LONG_NUMBER: Final = re.compile(rb"[0-9]{15}")
_LONG_DIGITS: Final = re.compile(r"[0-9]{15}")
_DECODER: Final = json.JSONDecoder(parse_int=_read_integer, object_pairs_hook=_read_object)
#: As quick as it gets, for texts without long numbers.
_PLAIN_DECODER: Final = json.JSONDecoder(object_pairs_hook=_read_object)
#: One text of more elements (or escapes) than this is not read in one go, in which no other thread
#: could run. So many take some tens of milliseconds.
_ELEMENTS_AT_ONCE: Final = 50_000


class _PatientDecoder(json.JSONDecoder):
    """Reads element by element, several times as slowly, and lets other threads in between."""

    def __init__(self) -> None:
        super().__init__(parse_int=_read_integer, object_pairs_hook=_read_object)
        self.parse_string = _read_string
        self.scan_once = py_make_scanner(self)


def _read_string(text: str, start: int, _strict: bool) -> tuple[str, int]:
    """The string whose first character is at `start`, and where it ends."""
    end = start
    while True:
        end = text.find('"', end) + 1
        if not end:
            raise json.JSONDecodeError("a string does not end", text, start - 1)
        escapes = end - 1
        while text[escapes - 1] == "\\" and escapes > start:
            escapes -= 1
        if (end - 1 - escapes) % 2 == 0:
            break
    try:
        return orjson.loads(text[start - 1 : end]), end
    except orjson.JSONDecodeError as error:
        raise json.JSONDecodeError(error.msg, text, start - 1) from None


_PATIENT_DECODER: Final = _PatientDecoder()


def parse(text: bytes | str) -> JsonValue:
    """Read one JSON text into a normalised value, or raise `BadRequest` naming the place."""
    return normalise(_read(text))


def parse_document(text: bytes | str) -> JsonValue:
    """As `parse`, but deep enough for any value in its place within a document.

    What is a value is to be normalised when it is taken out.
    """
    return _checked(_read(text), _number, _AROUND)


def parse_as_written(text: bytes | str) -> JsonValue:
    """As `parse_document`, but `1.0` stays a float.

    For documents in which some numbers are values and others are arguments, such as `by`, that
    must be written as integers.
    """
    value = _read_quickly(text)
    if type(value) is dict and _is_simple(text, value):
        return cast(JsonValue, value)
    return _checked(_read_slowly(text) if value is _UNREAD else value, _finite, _AROUND)


def _is_simple(text: bytes | str, members: dict[str, object]) -> bool:
    """Are the members, which the fast reader read, strings and short integers?

    Then there is nothing in them that `_checked` would refuse or change.
    """
    kinds = set(map(type, members.values()))
    if int in kinds and (isinstance(text, str) or _LONG_NUMBER.search(text)):
        return False
    return kinds <= _SIMPLE_KINDS


def _read(text: bytes | str) -> object:
    """What the text says, read strictly."""
    value = _read_quickly(text)
    return _read_slowly(text) if value is _UNREAD else value


def has_more_elements(text: bytes, most: int) -> bool:
    """Does a JSON text hold more elements? One is each comma, and each bracket that opens.

    Those in strings are none. Quick, and in steps between which other threads may run. Of a text
    that is no JSON, what comes before the mistake is counted right.
    """
    if len(text) <= most or _marks(text) <= most:
        return False
    text = _unescaped(text)
    if text.count(b'"') > 4 * most + 2:  # a key and a value for each element
        return True
    return _marks(_outside_strings(text)) > most


def _marks(text: bytes) -> int:
    count = 0
    for mark in _ELEMENT_MARKS:  # no `sum`, which would be one step
        count += text.count(mark)
    return count


def nesting(text: bytes) -> int:
    """How deep a JSON text nests. O(bytes)."""
    deepest = depth = 0
    for bracket in _BRACKET.finditer(_outside_strings(_unescaped(text))):
        depth += 1 if bracket[0] in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unescaped(text: bytes) -> bytes:
    """A text in which each quotation mark that is left begins or ends a string."""
    return text.replace(b"\\\\", b"").replace(b'\\"', b"")


def _outside_strings(text: bytes) -> bytes:
    return b"".join(text.split(b'"')[::2])


def _is_long(text: bytes | str) -> bool:
    """Would reading all its elements in one go keep other threads waiting?"""
    if len(text) <= _ELEMENTS_AT_ONCE:
        return False
    if isinstance(text, str):
        text = text.encode(errors="surrogatepass")
    return has_more_elements(text, _ELEMENTS_AT_ONCE)


def _read_quickly(text: bytes | str) -> object:
    """What the text says, or `_UNREAD`.

    The fast reader keeps the last of duplicate keys and rounds great integers. But when writing
    what it read gives the same text again, byte by byte, nothing was lost; that is so for compact
    text without unusual escapes, as most clients send it. Everything else is to be read slowly.
    """
    if _is_long(text):
        return _UNREAD
    try:
        value: object = orjson.loads(text)
        if orjson.dumps(value) == (text if isinstance(text, bytes) else text.encode()):
            return value
    except (ValueError, TypeError):
        pass
    return _UNREAD


def _read_slowly(text: bytes | str) -> object:
    try:
        if isinstance(text, bytes):
            text = text.decode()
        if text.count("\\") > _ELEMENTS_AT_ONCE or _is_long(text):
            decoder: json.JSONDecoder = _PATIENT_DECODER
        else:
            # Looking through a large text would take longer than the plain decoder saves.
            is_plain = len(text) <= _ELEMENTS_AT_ONCE and not _LONG_DIGITS.search(text)
            decoder = _PLAIN_DECODER if is_plain else _DECODER
        value: object = decoder.decode(text)
        return value
    except UnicodeDecodeError as error:
        raise _Refusal(f"not UTF-8 at byte {error.start}").problem() from None
    except json.JSONDecodeError as error:
        marked = error.doc.startswith("\ufeff")
        reason = "a byte order mark comes before the JSON text" if marked else f"not JSON: {error}"
        raise _Refusal(reason).problem() from None
    except RecursionError:
        raise _too_deep().problem() from None


def normalise(value: object) -> JsonValue:
    """The normalised copy of a Python value, or `BadRequest` naming the place.

    Taken are None, bool, int, float, str, list, tuple (as an array) and dict, but no subclasses:
    what an enumeration or a named tuple means beyond its value would silently be lost.
    """
    return _checked(value, _number)


def checked(value: object) -> JsonValue:
    """As `normalise`, but `1.0` stays a float: for documents, see `parse_as_written`."""
    return _checked(value, _finite, _AROUND)


#: What becomes of a float.
_Float: TypeAlias = Callable[[float], int | float]


def _checked(value: object, of_float: _Float, around: int = 0) -> JsonValue:
    try:
        return _walked(value, -around, of_float)
    except _Refusal as refusal:
        raise refusal.problem() from None


def _walked(value: object, depth: int, of_float: _Float) -> JsonValue:
    if type(value) is str:
        return _unicode(value)
    if type(value) is int:
        if INT_MIN <= value <= INT_MAX:
            return value
        raise _out_of_range()
    if value is None or type(value) is bool:
        return value
    if type(value) is float:
        return of_float(value)
    if type(value) is dict:
        return _walked_object(value, depth + 1, of_float)
    if type(value) is list or type(value) is tuple:
        return _walked_array(value, depth + 1, of_float)
    if isinstance(value, _Refusal):
        raise value
    raise _Refusal(f"{type(value).__name__} is not a JSON type")


def _walked_object(members: dict[object, object], depth: int, of_float: _Float) -> JsonValue:
    if depth > LIMITS.json_depth:
        raise _too_deep()
    result: dict[str, JsonValue] = {}
    for key, item in members.items():
        if type(key) is not str:
            raise _Refusal(f"object keys must be strings, not {type(key).__name__}")
        try:
            result[_unicode(key)] = _walked(item, depth, of_float)
        except _Refusal as refusal:
            raise refusal.inside(_step(key)) from None
    return result


def _walked_array(
    items: list[object] | tuple[object, ...], depth: int, of_float: _Float
) -> JsonValue:
    if depth > LIMITS.json_depth:
        raise _too_deep()
    result: list[JsonValue] = []
    for index, item in enumerate(items):
        try:
            result.append(_walked(item, depth, of_float))
        except _Refusal as refusal:
            raise refusal.inside(f"[{index}]") from None
    return result


def _unicode(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Refusal("a lone surrogate is not a character") from None
    return text


def _number(value: float) -> int | float:
    """The normalised form of a double."""
    _finite(value)
    if value.is_integer() and INT_MIN <= value <= INT_MAX:
        return int(value)
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _Refusal("numbers must be finite and within the range of a double")
    return value


def dump(value: JsonValue) -> bytes:
    """The canonical JSON text of a normalised value: compact, keys in UTF-8 order.

    It may be kept for long: what orjson gives back holds on to a buffer of 4 KiB, this does not.
    """
    return bytes(memoryview(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)))


def load(text: bytes) -> JsonValue:
    """The inverse of `dump`, for text that this module wrote; strangers' text goes to `parse`."""
    value: JsonValue = orjson.loads(text)
    return value
