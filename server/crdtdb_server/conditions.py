"""Entity tags: `ETag`, `If-None-Match` on reads, `If-Match` on writes.

A tag names a place in one store's sequence: where the object last changed *here*. It costs no
read of the value, and it says nothing about other replicas: their stores have other ids, so their
tags never match. It guards a local race; it is no compare-and-set across regions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from crdtdb.address import ObjectName
from crdtdb.errors import BadHeader, Field
from crdtdb.head import Head
from crdtdb.transaction import Expectation
from crdtdb_server.exchange import Headers
from crdtdb_server.parameters import Header

__all__ = ["IF_MATCH", "IF_NONE_MATCH", "entity_tag", "expectations", "is_unchanged"]

_ANY: Final = "*"
#: The mark of weakness may be missing: some proxies drop it.
_FORM: Final = r'(?:W/)?"([0-9a-f]{16})\.(0|[1-9][0-9]{0,18})"'
_TAG: Final = re.compile(_FORM)
_TAGS: Final = {"pattern": rf"^(\*|{_FORM}( *, *{_FORM})*)$"}

IF_NONE_MATCH: Final = Header("If-None-Match", "304 if the object’s ETag is among these", _TAGS)
IF_MATCH: Final = Header("If-Match", "Only if the object’s ETag is among these", _TAGS)


def entity_tag(store_id: int, sequence: int) -> Headers:
    """The header that tags an object which last changed at that place."""
    return (("ETag", f'W/"{store_id:016x}.{sequence}"'),)


def is_unchanged(headers: Mapping[str, str], store_id: int, head: Head) -> bool:
    """Does a reader have this state of the object already? Raises BadHeader."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    sequences = _sequences("If-None-Match", given, store_id)
    return head.exists if sequences is None else head.sequence in sequences


def expectations(
    headers: Mapping[str, str], store_id: int, name: ObjectName | None
) -> tuple[Expectation, ...]:
    """What a write to an object expects; `name` is None where it is not one object's write.

    A condition that would not be kept is refused rather than overlooked. Raises BadHeader.
    """
    if "if-none-match" in headers:
        raise BadHeader(
            "If-None-Match is for reads; guard a write with If-Match and the ETag of a read",
            Field("If-None-Match", "not for writes"),
        )
    given = headers.get("if-match")
    if given is None:
        return ()
    if name is None:
        raise BadHeader(
            "If-Match guards a write to one object; this request writes to several",
            Field("If-Match", "not here"),
        )
    return (Expectation(name, _sequences("If-Match", given, store_id)),)


def _sequences(header: str, given: str, store_id: int) -> frozenset[int] | None:
    """The places that a list of tags names in this store; None for `*`. Raises BadHeader."""
    if given.strip() == _ANY:
        return None
    tags = [tag for part in given.split(",") if (tag := part.strip())]
    matches = [match for tag in tags if (match := _TAG.fullmatch(tag))]
    if not matches or len(matches) < len(tags):
        raise BadHeader(
            f"{header} takes the ETags of reads here, separated by commas, or *",
            Field(header, "not a list of ETags of this database"),
        )
    return frozenset(int(match[2]) for match in matches if int(match[1], 16) == store_id)
