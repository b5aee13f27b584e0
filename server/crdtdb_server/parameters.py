"""Parameters of requests, as data: what validates a request is what the OpenAPI document shows.

A parameter of the query may also stand in a document (those of a read do, in a transaction): it is
read from text with `parse` and from JSON with `check`, and means the same in both.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from crdtdb import address, jsonvalue
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest, Field, joined, shortened
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.query import check_key_start, check_path, encode_bound
from crdtdb.types import CATALOGUE
from crdtdb_server.exchange import decode_query

__all__ = [
    "AFTER",
    "BUCKET",
    "DRY_RUN",
    "KEY",
    "LIMIT",
    "PREFIX",
    "SEEN",
    "TYPE",
    "Base64",
    "Boolean",
    "Choice",
    "FieldPath",
    "Header",
    "Json",
    "Parameter",
    "Parameters",
    "Schema",
    "Text",
    "WholeNumber",
    "check_document",
    "parameters",
    "read_query",
]

V = TypeVar("V")

#: A JSON Schema (2020-12).
Schema: TypeAlias = Mapping[str, Any]

_DIGITS: Final = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Parameter(ABC, Generic[V]):
    """One parameter: how it is called, what it means, what it may be."""

    name: str
    summary: str
    _: KW_ONLY
    #: What an absent one means.
    default: V

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """What it may be, as far as JSON Schema can say it."""

    @abstractmethod
    def parse(self, text: str) -> V:
        """What a text says. Raises BadRequest, or TooLarge, naming the parameter."""

    @abstractmethod
    def check(self, value: Any, field: str) -> V:
        """What a JSON value says. Raises BadRequest, or TooLarge, naming `field`."""

    def of(self, given: Mapping[str, Any]) -> V:
        """Its value among parameters that have been read."""
        value: V = given.get(self.name, self.default)
        return value

    def refusal(self, message: str, limit: int | str | None = None, field: str = "") -> BadRequest:
        """The problem of a value that it cannot have."""
        field = field or self.name
        return BadRequest(f"`{field}` is refused: {message}", Field(field, message, limit))


@dataclass(frozen=True, slots=True)
class WholeNumber(Parameter[int]):
    """An integer within bounds."""

    least: int
    most: int

    @property
    def schema(self) -> Schema:
        return {
            "type": "integer",
            "minimum": self.least,
            "maximum": self.most,
            "default": self.default,
        }

    def parse(self, text: str) -> int:
        if not _DIGITS.fullmatch(text):
            raise self.refusal("not a whole number in decimal digits", self.most)
        return self.check(int(text), self.name)

    def check(self, value: Any, field: str) -> int:
        if type(value) is not int:
            raise self.refusal("not an integer", self.most, field)
        if not self.least <= value <= self.most:
            raise self.refusal(f"not within {self.least} to {self.most}", self.most, field)
        return value


@dataclass(frozen=True, slots=True)
class Boolean(Parameter[bool]):
    """True or false."""

    _: KW_ONLY
    default: bool = False

    @property
    def schema(self) -> Schema:
        return {"type": "boolean", "default": self.default}

    def parse(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise self.refusal("neither true nor false")
        return text == "true"

    def check(self, value: Any, field: str) -> bool:
        if type(value) is not bool:
            raise self.refusal("neither true nor false", field=field)
        return value


@dataclass(frozen=True, slots=True)
class Text(Parameter[str | None]):
    """A string; `accept` raises a problem, which names the parameter, for what it cannot be."""

    _: KW_ONLY
    default: str | None = None
    accept: Callable[[str], object] = str
    #: What JSON Schema can say of what is accepted.
    form: Schema = field(default_factory=dict)

    @property
    def schema(self) -> Schema:
        return {"type": "string", **self.form}

    def parse(self, text: str) -> str:
        self.accept(text)
        return text

    def check(self, value: Any, field: str) -> str:
        if type(value) is not str:
            raise self.refusal("not a string", field=field)
        return self.parse(value)


@dataclass(frozen=True, slots=True)
class Choice(Parameter[str | None]):
    """One of a few words."""

    words: tuple[str, ...]
    _: KW_ONLY
    default: str | None = None

    @property
    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.words)}

    def parse(self, text: str) -> str:
        return self.check(text, self.name)

    def check(self, value: Any, field: str) -> str:
        if value not in self.words:
            known = " or ".join(self.words)
            raise self.refusal(f"not {known}", known, field)
        word: str = value
        return word


@dataclass(frozen=True, slots=True)
class Base64(Parameter[bytes]):
    """Bytes, in base64."""

    _: KW_ONLY
    default: bytes = b""

    @property
    def schema(self) -> Schema:
        return {"type": "string", "format": "byte"}

    def parse(self, text: str) -> bytes:
        return self.check(text, self.name)

    def check(self, value: Any, field: str) -> bytes:
        if type(value) is not str:
            raise self.refusal("not a string", field=field)
        try:
            return a2b_base64(value, strict_mode=True)
        except ValueError as error:  # not ASCII, or not base64
            raise self.refusal("not base64", field=field) from error


@dataclass(frozen=True, slots=True)
class Json(Parameter[tuple[JsonValue, ...]]):
    """A JSON value that members are compared with; alone in a tuple, for null is one too."""

    _: KW_ONLY
    default: tuple[JsonValue, ...] = ()

    @property
    def schema(self) -> Schema:
        return {}

    def parse(self, text: str) -> tuple[JsonValue, ...]:
        return self.check(parsed_json(self.name, text), self.name)

    def check(self, value: Any, field: str) -> tuple[JsonValue, ...]:
        encode_bound(value, field)
        return (jsonvalue.normalise(value),)


@dataclass(frozen=True, slots=True)
class FieldPath(Parameter[tuple[str, ...] | None]):
    """A field of a map, as a JSON list of strings."""

    least: int
    _: KW_ONLY
    default: tuple[str, ...] | None = None

    @property
    def schema(self) -> Schema:
        return {
            "type": "array",
            "items": {"type": "string"},
            "minItems": self.least,
            "maxItems": LIMITS.map_depth,
        }

    def parse(self, text: str) -> tuple[str, ...]:
        return self.check(parsed_json(self.name, text), self.name)

    def check(self, value: Any, field: str) -> tuple[str, ...]:
        return check_path(value, field, self.least)


class Header(NamedTuple):
    """A field of a request's head. Whoever reads it holds it against the same form."""

    name: str
    summary: str
    #: What JSON Schema can say of it.
    form: Schema = {}  # noqa: RUF012 - never changed


def parsed_json(name: str, text: str) -> JsonValue:
    """The value of a parameter that is JSON text. Raises BadRequest naming it."""
    try:
        return jsonvalue.parse(text)
    except BadRequest as error:
        raise BadRequest(
            f"`{name}` is JSON text (a string needs its quotes). {error.detail}",
            *(Field(name, wrong.message, wrong.limit) for wrong in error.fields),
        ) from error


#: What a request may give, by name.
Parameters: TypeAlias = Mapping[str, Parameter[Any]]


def parameters(*those: Parameter[Any]) -> Parameters:
    """A set of parameters."""
    return {parameter.name: parameter for parameter in those}


def read_query(raw: str, known: Parameters) -> dict[str, Any]:
    """The parameters in a query as it was sent. Raises problems that name them."""
    return {name: known[name].parse(text) for name, text in decode_query(raw, known).items()}


def check_document(given: Mapping[str, Any], known: Parameters, place: str) -> dict[str, Any]:
    """The parameters in a JSON object that stands at `place`. Raises problems that name them."""
    for name in given:
        if name not in known:
            raise BadRequest(
                f"{place} has no field {shortened(name)!r}; there are {', '.join(known)}",
                Field(joined(place, shortened(name)), "unknown field"),
            )
    return {name: known[name].check(value, joined(place, name)) for name, value in given.items()}


# -- those of many routes -------------------------------------------------------------------------

BUCKET: Final = Text(
    ObjectName._fields[0],
    "A bucket",
    accept=address.check_bucket,
    form={"pattern": f"^{address.USER_BUCKET}$", "maxLength": LIMITS.bucket_bytes},
)
TYPE: Final = Text(
    ObjectName._fields[1], "A data type", accept=type_named, form={"enum": list(CATALOGUE)}
)
KEY: Final = Text(
    ObjectName._fields[2],
    "The key of an object, in UTF-8; a / is written %2F",
    accept=address.check_key,
    form={"pattern": r"^(?!\.{1,2}$)[^\u0000]+$", "maxLength": LIMITS.key_bytes},
)
LIMIT: Final = WholeNumber(
    "limit",
    "Entries of one page, at most",
    1,
    LIMITS.page_items,
    default=LIMITS.page_items_default,
)
AFTER: Final = Text(
    "after", "The `next` of the page before, of the same query", form={"format": "page-cursor"}
)
PREFIX: Final = Text(
    "prefix",
    "What keys begin with",
    accept=check_key_start,
    form={"pattern": r"^[^\u0000]*$", "maxLength": LIMITS.key_bytes},
)
SEEN: Final = Text(
    "seen",
    "The `seen` of a read: remove or replace only what it showed",
    form={"format": "read-context"},
)
DRY_RUN: Final = Boolean("dry_run", "Count what would be deleted, and delete nothing")
