"""Keys of any length on top of LMDB's 511 bytes, in exact byte order.

A key of up to `CHUNK` bytes is stored as it is, in the table's `short` database. A longer one is
cut into chunks, and the chunks make a tree of *nodes*. The node of a prefix (a whole number of
chunks) holds, in the table's `long` database under the digest of that prefix,

- the rest of each key that ends in it: `digest + rest` → value, and
- a *signpost* to each node below it: `digest + chunk + 0x00` → nothing.

The root is the `short` database itself, without a digest. A signpost is one byte longer than any
rest, which tells them apart, and it sorts right after the key that ends with its chunk, where the
longer keys belong. So a scan meets a signpost, walks the node it points to, and goes on: lazily,
forwards or backwards, from any bound, whatever the size of the node. A get is one lookup, since
the digest of all but the last chunk can be computed.

Invariant: a node is not empty exactly when its signpost, and all those above it, exist.

The digest is a cryptographic one, because keys come from users: a collision would let one key
overwrite another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

import lmdb

__all__ = ["CHUNK", "Databases", "apply", "get", "page", "scan"]

_DIGEST = 16
_SIGN = b"\0"
#: What remains of LMDB's longest key beside the digest and the mark of a signpost.
CHUNK = 511 - _DIGEST - len(_SIGN)
#: Above every rest and signpost of a node.
_TOP = b"\xff" * (CHUNK + 1)
#: A page reads ahead so many entries at first, then four times as many: it may end soon.
_FIRST_STRIDE = 8


class Databases(NamedTuple):
    """The two LMDB databases that make one table."""

    short: lmdb._Database
    long: lmdb._Database


def get(transaction: lmdb.Transaction[bytes], table: Databases, key: bytes) -> bytes | None:
    """The value at `key`."""
    if len(key) <= CHUNK:
        return transaction.get(key, db=table.short)
    node, rest = _split(key)
    return transaction.get(_base(node) + rest, db=table.long)


def apply(
    transaction: lmdb.Transaction[bytes], table: Databases, changes: Mapping[bytes, bytes | None]
) -> None:
    """Make the changes, in the order of their keys: neighbours share pages."""
    puts = []
    for key in sorted(changes):
        value = changes[key]
        if len(key) > CHUNK:
            if value is None:
                _delete_long(transaction, table, key)
            else:
                _put_long(transaction, table, key, value)
        elif value is None:
            transaction.delete(key, db=table.short)
        else:
            puts.append((key, value))
    if puts:
        with transaction.cursor(table.short) as cursor:
            cursor.putmulti(puts)


def scan(
    transaction: lmdb.Transaction[bytes],
    table: Databases,
    start: bytes,
    end: bytes | None,
    *,
    reverse: bool,
) -> Iterator[tuple[bytes, bytes]]:
    """Entries with start ≤ key < end, in byte order or its reverse."""
    walk = _backwards if reverse else _forwards
    return walk(transaction, table, b"", start, end)


def page(
    transaction: lmdb.Transaction[bytes],
    table: Databases,
    start: bytes,
    end: bytes | None,
    most: int,
    *,
    reverse: bool,
) -> list[tuple[bytes, bytes]]:
    """The first `most` entries of that scan. Where no key is long, the cursor runs by itself."""
    found: list[tuple[bytes, bytes]] = []
    if max(len(start), len(end or b"")) <= CHUNK:
        with transaction.cursor(table.short) as cursor:
            entries = _run(cursor, start, end, reverse=reverse)
            has_long_keys = transaction.stat(table.long)["entries"] > 0
            stride = _FIRST_STRIDE
            while taken := list(islice(entries, min(stride, most - len(found)))):
                if has_long_keys and any(len(key) > CHUNK for key, _ in taken):
                    break
                last = taken[-1][0]
                if last < start if reverse else end is not None and last >= end:
                    return found + [entry for entry in taken if _is_within(entry[0], start, end)]
                found += taken
                stride *= 4
            else:
                return found
    return list(islice(scan(transaction, table, start, end, reverse=reverse), most))


def _run(
    cursor: lmdb.Cursor[bytes], start: bytes, end: bytes | None, *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """The entries from one bound on, beyond the other one, too."""
    if not reverse:
        return cursor.iternext() if cursor.set_range(start) else iter(())
    is_above = end is not None and cursor.set_range(end)
    return cursor.iterprev() if (cursor.prev() if is_above else cursor.last()) else iter(())


def _is_within(key: bytes, start: bytes, end: bytes | None) -> bool:
    return start <= key and (end is None or key < end)


def _forwards(
    transaction: lmdb.Transaction[bytes],
    table: Databases,
    node: bytes,
    start: bytes,
    end: bytes | None,
) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one node and of those below it. If start > node, it begins with node."""
    base = _base(node)
    rest = start[len(node) :] if start > node else b""
    if len(rest) > CHUNK:
        rest = rest[:CHUNK] + _SIGN
    with transaction.cursor(table.long if node else table.short) as cursor:
        if not cursor.set_range(base + rest):
            return
        for place, value in cursor.iternext():
            if base and not place.startswith(base):
                return
            key = node + place[len(base) :]
            if len(key) - len(node) > CHUNK:
                below = key[: -len(_SIGN)]
                if end is not None and below >= end:
                    return
                yield from _forwards(transaction, table, below, start, end)
            elif end is not None and key >= end:
                return
            else:
                yield key, value


def _backwards(
    transaction: lmdb.Transaction[bytes],
    table: Databases,
    node: bytes,
    start: bytes,
    end: bytes | None,
) -> Iterator[tuple[bytes, bytes]]:
    """The mirror image of `_forwards`. `end` is above some key of the node."""
    base = _base(node)
    if end is None or not end.startswith(node):
        above = _TOP
    else:
        above = end[len(node) :]
        if len(above) > CHUNK:
            above = above[:CHUNK] + b"\1"  # just above the signpost of the node that holds `end`
    with transaction.cursor(table.long if node else table.short) as cursor:
        if not (cursor.prev() if cursor.set_range(base + above) else cursor.last()):
            return
        for place, value in cursor.iterprev():
            if base and not place.startswith(base):
                return
            key = node + place[len(base) :]
            if len(key) - len(node) > CHUNK:
                below = key[: -len(_SIGN)]
                if start > below and not start.startswith(below):
                    return
                yield from _backwards(transaction, table, below, start, end)
            elif key < start:
                return
            else:
                yield key, value


def _put_long(
    transaction: lmdb.Transaction[bytes], table: Databases, key: bytes, value: bytes
) -> None:
    node, rest = _split(key)
    transaction.put(_base(node) + rest, value, db=table.long)
    while node:
        database, signpost = _signpost(table, node)
        if not transaction.put(signpost, b"", overwrite=False, db=database):
            return
        node = node[:-CHUNK]


def _delete_long(transaction: lmdb.Transaction[bytes], table: Databases, key: bytes) -> None:
    node, rest = _split(key)
    transaction.delete(_base(node) + rest, db=table.long)
    with transaction.cursor(table.long) as cursor:
        while node and not (cursor.set_range(_base(node)) and cursor.key().startswith(_base(node))):
            database, signpost = _signpost(table, node)
            transaction.delete(signpost, db=database)
            node = node[:-CHUNK]


def _split(key: bytes) -> tuple[bytes, bytes]:
    """The node in which a key ends, and what it is called there."""
    cut = (len(key) - 1) // CHUNK * CHUNK
    return key[:cut], key[cut:]


def _base(node: bytes) -> bytes:
    """What the keys of a node begin with on disk."""
    return blake2b(node, digest_size=_DIGEST).digest() if node else b""


def _signpost(table: Databases, node: bytes) -> tuple[lmdb._Database, bytes]:
    """Where the parent of a node says that the node is not empty."""
    parent, chunk = node[:-CHUNK], node[-CHUNK:]
    return (table.long if parent else table.short), _base(parent) + chunk + _SIGN
