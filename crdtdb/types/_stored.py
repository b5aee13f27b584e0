"""How a JSON value becomes a payload: checked once, stored as the text that reads send."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from crdtdb import jsonvalue
from crdtdb.errors import BadRequest, Field, TooLarge
from crdtdb.limits import LIMITS

__all__ = ["check_stored", "check_stored_each", "stored"]

#: JSON texts that are what they look like: strings without escapes, short integers, and words.
_SIMPLE: Final = re.compile(
    rb'"[^"\\\x00-\x1f]{0,4096}"|0|-?[1-9][0-9]{0,14}|true|false|null'
).fullmatch


def stored(value: object, field: str = "value") -> bytes:
    """The JSON text of a value. Raises BadRequest, or TooLarge beyond `LIMITS.value_bytes`."""
    text = jsonvalue.dump(jsonvalue.normalise(value))
    if len(text) > LIMITS.value_bytes:
        raise TooLarge(
            f"the value has {len(text)} bytes as JSON; keep it within {LIMITS.value_bytes}",
            Field(field, "too large", LIMITS.value_bytes),
        )
    return text


def check_stored(text: bytes) -> None:
    """Raises ValueError for text that `stored` never gives."""
    if len(text) > LIMITS.value_bytes:
        raise ValueError("a value is too large")
    try:
        jsonvalue.parse(text)
    except BadRequest as error:
        raise ValueError(f"a value is not JSON: {error}") from error


def check_stored_each(texts: Sequence[bytes]) -> None:
    """Raises ValueError if one of these is a text that `stored` never gives."""
    simple = [text for text in texts if _SIMPLE(text)]
    b"".join(simple).decode()
    if len(simple) < len(texts):
        for text in texts:
            if not _SIMPLE(text):
                check_stored(text)
