"""Objects as lines of JSON, `{"bucket","type","key","value"}`, that an import takes.

One that has a deadline has it in each of its lines, as `"expires_at_ms"`.

An export can be as long as the data, so it is read in parts, each of a snapshot of its own: nothing
is held between two parts, and one object's line shows one state of it. What exists during the whole
export is in it, each member once. An object that is too much for one line takes several, which
add up: a collection page by page, a counter by portions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from crdtdb import address, codec, jsonvalue
from crdtdb.address import ObjectName
from crdtdb.cursor import read_cursor, write_cursor
from crdtdb.datatype import NestedType
from crdtdb.fields import read_leaves
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.query import check_key_start
from crdtdb.reading import PageQuery, Reading
from crdtdb.types import CATALOGUE

__all__ = ["Export", "line_of"]

#: A part ends with the line that makes it longer than this, or after so many lines.
_PART_BYTES: Final = 256 * 1024
_PART_LINES: Final = 1_000

_decode = msgspec.msgpack.Decoder(tuple[bytes, bytes | None]).decode


class Export:
    """Where an export stands: of all objects, of a bucket, of keys that begin with `prefix`."""

    def __init__(
        self, bucket: str | None = None, prefix: str = "", after: str | None = None
    ) -> None:
        """`after` is the `next` of an equal export, of this replica or another.

        Raises BadRequest for what no export is of.
        """
        if bucket is not None:
            address.check_bucket(bucket)
        check_key_start(prefix)
        self._identity = f"export {bucket or ''} {prefix}"
        self._key_start = prefix
        #: What is still to be looked through, in order.
        self._ranges = (
            [address.DATA]
            if bucket is None
            else [address.key_prefix(bucket, name, prefix) for name in sorted(CATALOGUE)]
        )
        #: The address to go on from, and within that object the member to go on behind.
        self._from = b""
        self._behind: bytes | None = None
        if after is not None:
            self._from, self._behind = _decode(read_cursor(self._identity, after))

    @property
    def next(self) -> str | None:
        """Where to go on; None at the end."""
        if not self._ranges:
            return None
        return write_cursor(self._identity, codec.pack((self._from, self._behind)))

    def part(self, reading: Reading) -> list[bytes]:
        """The next lines, each without its end; none at the end. O(objects looked at)."""
        lines: list[bytes] = []
        size = 0
        for object_lines in self._lines(reading):
            lines += object_lines
            size += sum(map(len, object_lines))
            if size > _PART_BYTES or len(lines) >= _PART_LINES:
                break
        return lines

    def _lines(self, reading: Reading) -> Iterator[list[bytes]]:
        """Lines from where the export stands. With each list, it stands behind those."""
        while self._ranges:
            for name in reading.existing(self._ranges[0], self._from):
                if self._is_wanted(name):
                    yield from self._object(reading, name)
            del self._ranges[0]

    def _is_wanted(self, name: ObjectName) -> bool:
        return (
            not name.bucket.startswith("_")
            and name.type in CATALOGUE
            and name.key.startswith(self._key_start)
        )

    def _object(self, reading: Reading, name: ObjectName) -> Iterator[list[bytes]]:
        prefix = name.prefix
        head = reading.passing_head(prefix)
        kind = type_named(name.type)
        if not kind.collection:
            value = reading.exported(name, head)
            self._stand_behind(prefix)
            yield [line_of(name, p, head.expires_at_ms) for p in kind.portions(value)]
            return
        if prefix != self._from:
            self._from, self._behind = prefix, None
        while prefix == self._from:
            if isinstance(kind, NestedType):
                yield self._leaves(reading, name, head.expires_at_ms)
                continue
            page = reading.page(name, head, PageQuery(LIMITS.page_items, self._behind))
            self._behind = page.position
            if page.position is None:
                self._stand_behind(prefix)
            if page.items:
                yield [line_of(name, kind.exported_items(page.items), head.expires_at_ms)]

    def _leaves(self, reading: Reading, name: ObjectName, expires_at_ms: int | None) -> list[bytes]:
        """The next leaves of a map, in as many lines as importing them takes transactions."""
        query = PageQuery(LIMITS.page_items, self._behind)
        page = read_leaves(reading, name, query, exported=True)
        self._behind = page.position
        if page.position is None:
            self._stand_behind(name.prefix)
        lines: list[bytes] = []
        leaves: list[JsonValue] = []
        operations = size = 0
        for path, type_name, value in page.leaves:
            kind = type_named(type_name)
            for portion in kind.portions(value):
                more = sum(1 for _ in kind.restore(portion))
                if leaves and (
                    operations + more > LIMITS.transaction_operations or size > _PART_BYTES
                ):
                    lines.append(line_of(name, leaves, expires_at_ms))
                    leaves, operations, size = [], 0, 0
                leaf: JsonValue = {"field": list(path), "type": type_name, "value": portion}
                leaves.append(leaf)
                operations += more
                size += len(jsonvalue.dump(leaf))
        return [*lines, line_of(name, leaves, expires_at_ms)] if leaves else lines

    def _stand_behind(self, prefix: bytes) -> None:
        # No name holds a zero byte, so no object's prefix is between the two.
        self._from, self._behind = prefix + b"\0", None


def line_of(name: ObjectName, value: JsonValue, expires_at_ms: int | None = None) -> bytes:
    """The line of an object with this value, and this deadline if it has one."""
    parts = tuple(map(jsonvalue.dump, (*name, value)))
    line = b'{"bucket":%b,"type":%b,"key":%b,"value":%b' % parts
    return line + (b"}" if expires_at_ms is None else b',"expires_at_ms":%d}' % expires_at_ms)
