"""Opaque text: bytes that travel through callers' hands as base64url without padding.

Strict: every value has exactly one text, so nothing can be hidden in what decoders ignore.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

__all__ = ["from_opaque", "to_opaque"]


def to_opaque(data: bytes) -> str:
    """The text of some bytes."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_opaque(text: str) -> bytes:
    """The inverse of `to_opaque`. Raises ValueError for any other text."""
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if to_opaque(data) != text:
        raise ValueError("not the text of any bytes")
    return data
