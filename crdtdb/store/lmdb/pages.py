"""Is a data file safe to hand to LMDB?

LMDB trusts its file: it maps it and follows page numbers, and a file that was cut short kills the
process with SIGBUS. So the first look is taken here, with plain reads: both meta pages, the list
of free pages and the root of every table. That costs next to nothing at any size. What lies deeper
LMDB meets as it reads: it refuses most damaged pages, some end the process, and flipped bits in
values are for the records' own checksums. `python -m lmdb verify -e DIRECTORY` looks at all of it.

The file may well be shorter than the meta page says: LMDB never writes a page that was taken and
given back within one transaction. Such pages are in the list of free pages, and only they may be
missing.

Layout of LMDB 0.9 on 64-bit machines (`mdb.c`): native byte order; page 0 and 1 are meta pages,
transaction N writes page N & 1, the greater N counts.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Set
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["DamagedPages", "check_data_file"]

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG_VALUE, _SUB_DATABASE = 1, 2
_NOTHING = 2**64 - 1
#: LMDB's cursors hold no more levels.
_DEPTH = 32

_PAGE = struct.Struct("=QHHHH")  # number, padding, flags, lower, upper
_PAGE_COUNT = struct.Struct("=I")  # in place of lower and upper, on overflow pages
_NUMBER = struct.Struct("=Q")
_NODE = struct.Struct("=HHHH")  # low and high half of the value's size, flags, size of the key
# padding, flags, depth, branch pages, leaf pages, overflow pages, entries, root
_TREE = struct.Struct("=IHHQQQQQ")
_HEAD = struct.Struct("=IIQQ")  # magic, version, address, map size
_TAIL = struct.Struct("=QQ")  # last page, transaction


class DamagedPages(Exception):
    """The data file is not what LMDB wrote."""


class _Meta(NamedTuple):
    page_bytes: int
    free_root: int
    main_root: int
    last_page: int
    transaction: int


class _Node(NamedTuple):
    flags: int
    key: bytes
    value: bytes


def check_data_file(path: Path, tables: Set[bytes]) -> None:
    """Raise `DamagedPages` unless LMDB can open `path` and finds `tables` in it."""
    try:
        with path.open("rb") as file:
            _Pages(file, path.stat().st_size).check(tables)
    except FileNotFoundError:
        raise DamagedPages(f"{path.name} is missing") from None
    except (struct.error, ValueError) as reason:
        raise DamagedPages(f"{path.name} has a page that cannot be read: {reason}") from None


class _Pages:
    """One look at a data file."""

    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        self._file = file
        first = self._meta(0, 0)
        second = self._meta(1, first.page_bytes)
        if first.page_bytes != second.page_bytes:
            raise DamagedPages("the meta pages disagree on the page size")
        self._meta_page = max(first, second, key=lambda meta: meta.transaction)
        self._page_bytes = first.page_bytes
        self._pages_in_file = file_bytes // first.page_bytes

    def check(self, tables: Set[bytes]) -> None:
        self._check_missing_pages()
        roots = {
            node.key: _TREE.unpack(node.value)[-1]
            for node in self._leaves(self._meta_page.main_root)
            if node.flags & _SUB_DATABASE
        }
        if missing := tables - roots.keys():
            raise DamagedPages(f"table {min(missing).decode()} is missing")
        for root in roots.values():
            if root != _NOTHING:
                self._page(root, _BRANCH, _LEAF)

    def _meta(self, number: int, page_bytes: int) -> _Meta:
        self._file.seek(number * page_bytes)
        data = self._file.read(_PAGE.size + _HEAD.size + 2 * _TREE.size + _TAIL.size)
        _, _, flags, _, _ = _PAGE.unpack_from(data)
        magic, version, _, _ = _HEAD.unpack_from(data, _PAGE.size)
        if (flags, magic, version) != (_META, _MAGIC, _VERSION):
            raise DamagedPages(f"meta page {number} is not one of LMDB")
        trees = _PAGE.size + _HEAD.size
        free = _TREE.unpack_from(data, trees)
        main = _TREE.unpack_from(data, trees + _TREE.size)
        last_page, transaction = _TAIL.unpack_from(data, trees + 2 * _TREE.size)
        size = free[0]  # LMDB keeps the page size in the padding of the first tree
        if not 256 <= size <= 32_768 or size & (size - 1):
            raise DamagedPages(f"meta page {number} has an impossible page size")
        if transaction and transaction & 1 != number:
            raise DamagedPages(f"meta page {number} is of another transaction")
        return _Meta(size, free[-1], main[-1], last_page, transaction)

    def _check_missing_pages(self) -> None:
        first_missing, end = self._pages_in_file, self._meta_page.last_page + 1
        if first_missing >= end:
            return
        free = array("Q")
        for node in self._leaves(self._meta_page.free_root):
            pages = array("Q", node.value)
            free.extend(page for page in pages[1 : pages[0] + 1] if first_missing <= page < end)
        if len(set(free)) != end - first_missing:
            raise DamagedPages(
                f"the file was cut short: {end - first_missing - len(set(free))} pages are missing"
            )

    def _leaves(self, root: int, depth: int = 0) -> Iterator[_Node]:
        """Every entry of a tree, with its whole value."""
        if root == _NOTHING:
            return
        if depth == _DEPTH:
            raise DamagedPages("a tree points back into itself")
        page = self._page(root, _BRANCH, _LEAF)
        _, _, kind, lower, _ = _PAGE.unpack_from(page)
        for (offset,) in struct.Struct("=H").iter_unpack(page[_PAGE.size : lower]):
            low, high, flags, key_bytes = _NODE.unpack_from(page, offset)
            if kind == _BRANCH:
                yield from self._leaves(low | high << 16 | flags << 32, depth + 1)
                continue
            start = offset + _NODE.size + key_bytes
            size = low | high << 16
            if flags & _BIG_VALUE:
                value = self._big_value(_NUMBER.unpack_from(page, start)[0], size)
            else:
                value = page[start : start + size]
            if len(value) != size:
                raise DamagedPages(f"an entry leaves page {root}")
            yield _Node(flags, page[offset + _NODE.size : start], value)

    def _big_value(self, number: int, size: int) -> bytes:
        page = self._page(number, _OVERFLOW)
        (count,) = _PAGE_COUNT.unpack_from(page, _PAGE.size - _PAGE_COUNT.size)
        if number + count > self._pages_in_file or _PAGE.size + size > count * self._page_bytes:
            raise DamagedPages(f"the value on page {number} leaves the file")
        self._file.seek(number * self._page_bytes + _PAGE.size)
        return self._file.read(size)

    def _page(self, number: int, *kinds: int) -> bytes:
        if not 2 <= number < self._pages_in_file:
            raise DamagedPages(f"page {number} is missing")
        self._file.seek(number * self._page_bytes)
        page = self._file.read(self._page_bytes)
        stored, _, flags, lower, upper = _PAGE.unpack_from(page)
        if stored != number or flags not in kinds:
            raise DamagedPages(f"page {number} holds something else")
        if flags != _OVERFLOW and not _PAGE.size <= lower <= upper <= self._page_bytes:
            raise DamagedPages(f"page {number} is not in order")
        return page
