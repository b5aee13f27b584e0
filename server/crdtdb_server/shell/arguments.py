"""What stands behind the commands: addresses, values and fields, as people type them.

Readers raise ValueError, which cyclopts reports as wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

from cyclopts import Parameter, Token

from crdtdb import jsonvalue
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest
from crdtdb.jsonvalue import JsonValue
from crdtdb_client.targets import replica_url

__all__ = [
    "Address",
    "AsJson",
    "Damaged",
    "FieldPath",
    "Fields",
    "MemberUrl",
    "OtherUrl",
    "Place",
    "Url",
    "Value",
    "Where",
    "WhoseLoss",
]


class Where(NamedTuple):
    """What to list: everything, a bucket, a type in it, keys that begin so."""

    bucket: str | None = None
    type: str | None = None
    prefix: str = ""


class Damaged(NamedTuple):
    """Of what a loss is accepted."""

    #: None: of everything that waits.
    name: ObjectName | None


def read_address(text: str) -> ObjectName:
    """`BUCKET/TYPE/KEY`, split at the first two slashes; the key is taken as it is."""
    parts = text.split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise ValueError(f"{text!r} is not BUCKET/TYPE/KEY, such as shop/counter/views")
    return ObjectName(*parts)


def read_damaged(text: str) -> Damaged:
    """An object, or `everything`."""
    return Damaged(None if text == "everything" else read_address(text))


def read_where(text: str) -> Where:
    """`BUCKET[/TYPE[/PREFIX]]`; a slash at the end changes nothing."""
    bucket, _, rest = text.partition("/")
    type_name, _, prefix = rest.partition("/")
    if not bucket or (prefix and not type_name):
        raise ValueError(f"{text!r} is not BUCKET, BUCKET/TYPE or BUCKET/TYPE/PREFIX")
    return Where(bucket, type_name or None, prefix)


def read_value(text: str) -> JsonValue:
    """JSON if it is JSON, else a string; `@FILE` stands for what the file holds."""
    text = _contents(text)
    try:
        json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text
    except RecursionError:
        pass
    return _strict(text)


def read_path(text: str) -> list[str]:
    """A field of a map: a JSON list of names; what is none is one name."""
    try:
        path = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    is_path = isinstance(path, list) and all(isinstance(name, str) for name in path)
    return path if is_path else [text]


def read_field(text: str) -> tuple[str, JsonValue]:
    """`NAME=VALUE` as `read_value` has it, or `NAME:=JSON`, which has to be JSON."""
    name, equals, value = text.partition("=")
    if not equals or not name.removesuffix(":"):
        raise ValueError(f"{text!r} is not NAME=VALUE or NAME:=JSON")
    if name.endswith(":"):
        return name[:-1], _strict(_contents(value))
    return name, read_value(value)


def _contents(text: str) -> str:
    if not text.startswith("@"):
        return text
    file = Path(text[1:])
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {str(file)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{str(file)!r} is not UTF-8 text") from None


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity are Python's idea of JSON, nobody else's."""
    raise ValueError(name)


def _strict(text: str) -> JsonValue:
    try:
        # What is a value, and what an argument that must be an integer, the server knows.
        return jsonvalue.parse_as_written(text)
    except BadRequest as error:
        raise ValueError(error.detail) from None


# -- as parameters of commands --------------------------------------------------------------------


def _read_by(read: Callable[[str], Any], **more: Any) -> Parameter:
    def convert(_kind: object, tokens: Sequence[Token]) -> Any:
        return read(tokens[0].value)

    return Parameter(converter=convert, n_tokens=1, accepts_keys=False, **more)


Address = Annotated[
    ObjectName,
    _read_by(read_address, help="The object: BUCKET/TYPE/KEY; the key may hold slashes."),
]
Place = Annotated[
    Where,
    _read_by(read_where, help="BUCKET, BUCKET/TYPE or BUCKET/TYPE/PREFIX.", show_default=False),
]
Value = Annotated[
    Any,
    _read_by(
        read_value,
        allow_leading_hyphen=True,
        help="JSON; what is not JSON is a string. @FILE reads it from a file.",
    ),
]
Scope = Annotated[
    Where,
    _read_by(read_where, help="BUCKET, BUCKET/TYPE or BUCKET/TYPE/KEY.", show_default=False),
]
Member = Annotated[
    Any,
    _read_by(
        read_value,
        allow_leading_hyphen=True,
        show_default=False,
        show_choices=False,
        help="Of a collection only this member: JSON; what is not JSON is a string.",
    ),
]
FieldPath = Annotated[
    Any,
    _read_by(
        read_path,
        show_default=False,
        help="A field of a map: a JSON list of names; what is none is one name.",
    ),
]
Fields = Annotated[
    tuple[str, Any],
    _read_by(read_field, help="A field of the operation: NAME=VALUE, NAME=@FILE or NAME:=JSON."),
]
Url = Annotated[str, _read_by(replica_url, env_var="CRDTDB_URL", help="The server to ask.")]
MemberUrl = Annotated[
    str, _read_by(replica_url, help="The URL under which the members reach that replica.")
]
OtherUrl = Annotated[
    str | None,
    _read_by(replica_url, show_default=False, help="Compare with the replica at this URL."),
]
WhoseLoss = Annotated[
    Damaged | None,
    _read_by(
        read_damaged,
        show_default=False,
        help="Give up what is damaged of BUCKET/TYPE/KEY, or of `everything`.",
    ),
]
AsJson = Annotated[
    bool,
    Parameter(negative="", show_default=False, show_env_var=False, help="JSON, for programs."),
]
