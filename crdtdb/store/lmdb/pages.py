"""Is a data file safe to hand to LMDB?

LMDB trusts its file: it maps it and follows page numbers and offsets, and a file that was cut short
or scribbled on ends the process with a signal. So the first look is taken here, with plain reads:
both meta pages, what stands in them about every table, and the pages from the roots downwards, up
to a bounded number, so that it costs next to nothing at any size. A store of some megabytes is seen
whole, of a large one the pages through which every access goes.

What lies deeper LMDB meets as it reads: it refuses most damaged pages, some end the process, and
flipped bits in values are for the records' own checksums.

The file may well be shorter than the meta page says: LMDB never writes a page that was taken and
given back within one transaction. Such pages are in the list of free pages, and only they may be
missing.

Layout of LMDB 0.9 on 64-bit machines (`mdb.c`): native byte order; page 0 and 1 are meta pages,
transaction N writes page N & 1, the greater N counts.
"""

from __future__ import annotations

import struct
from array import array
from collections import deque
from collections.abc import Iterator, Set
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

__all__ = ["DamagedPages", "check_data_file"]

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG_VALUE, _SUB_DATABASE = 1, 2
#: Flags of a tree: the keys of the list of free pages are native integers.
_PLAIN, _INTEGER_KEYS = 0, 8
_NOTHING = 2**64 - 1
#: LMDB's cursors hold no more levels.
_DEPTH = 32
_KEY_BYTES = 511
#: So many pages are looked at from the roots downwards (about 50 ms).
_PAGES: Final = 1_024

_PAGE = struct.Struct("=QHHHH")  # number, padding, flags, lower, upper
_PAGE_COUNT = struct.Struct("=I")  # in place of lower and upper, on overflow pages
_NUMBER = struct.Struct("=Q")
_NODE = struct.Struct("=HHHH")  # low and high half of the value's size, flags, size of the key
_TREE = struct.Struct("=IHHQQQQQ")
_HEAD = struct.Struct("=IIQQ")  # magic, version, address, map size
_TAIL = struct.Struct("=QQ")  # last page, transaction


class DamagedPages(Exception):
    """The data file is not what LMDB wrote."""


class _Tree(NamedTuple):
    padding: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


class _Meta(NamedTuple):
    page_bytes: int
    free: _Tree
    main: _Tree
    last_page: int
    transaction: int


class _Node(NamedTuple):
    """An entry of a page."""

    flags: int
    key: bytes
    #: Empty if it is elsewhere.
    value: bytes
    #: How long the value is.
    size: int
    #: The page of the child, or where a big value begins; 0: neither.
    below: int


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
        first = self._read_meta(0, 0)
        second = self._read_meta(1, first.page_bytes)
        if first.page_bytes != second.page_bytes:
            raise DamagedPages("the meta pages disagree on the page size")
        older, self._meta = sorted((first, second), key=lambda meta: meta.transaction)
        newer = self._meta
        if newer.transaction and newer.transaction != older.transaction + 1:
            raise DamagedPages("the meta pages are not of two commits in a row")
        if newer.last_page < older.last_page:
            raise DamagedPages("the meta pages disagree on the last page")
        self._page_bytes = first.page_bytes
        self._pages_in_file = file_bytes // first.page_bytes

    def check(self, tables: Set[bytes]) -> None:
        free, main = self._meta.free, self._meta.main
        _check_tree(free, _INTEGER_KEYS)
        _check_tree(main, _PLAIN)
        self._check_missing_pages()
        trees = {
            node.key: _Tree._make(_TREE.unpack(node.value))
            for node in self._leaves(main)
            if node.flags == _SUB_DATABASE
        }
        if missing := tables - trees.keys():
            raise DamagedPages(f"table {min(missing).decode()} is missing")
        for tree in trees.values():
            _check_tree(tree, _PLAIN)
        self._look_down(free, main, *trees.values())

    def _read_meta(self, number: int, page_bytes: int) -> _Meta:
        self._file.seek(number * page_bytes)
        data = self._file.read(_PAGE.size + _HEAD.size + 2 * _TREE.size + _TAIL.size)
        _, _, flags, _, _ = _PAGE.unpack_from(data)
        magic, version, _, _ = _HEAD.unpack_from(data, _PAGE.size)
        if (flags, magic, version) != (_META, _MAGIC, _VERSION):
            raise DamagedPages(f"meta page {number} is not one of LMDB")
        trees = _PAGE.size + _HEAD.size
        free = _Tree._make(_TREE.unpack_from(data, trees))
        main = _Tree._make(_TREE.unpack_from(data, trees + _TREE.size))
        last_page, transaction = _TAIL.unpack_from(data, trees + 2 * _TREE.size)
        size = free.padding  # LMDB keeps the page size there
        if not 256 <= size <= 32_768 or size & (size - 1):
            raise DamagedPages(f"meta page {number} has an impossible page size")
        if transaction and transaction & 1 != number:
            raise DamagedPages(f"meta page {number} is of another transaction")
        return _Meta(size, free, main, last_page, transaction)

    def _check_missing_pages(self) -> None:
        first_missing, end = self._pages_in_file, self._meta.last_page + 1
        if first_missing >= end:
            return
        free: set[int] = set()
        for node in self._leaves(self._meta.free):
            pages = array("Q", self._big_value(node) if node.below else node.value)
            free.update(page for page in pages[1 : pages[0] + 1] if first_missing <= page < end)
        if len(free) != end - first_missing:
            raise DamagedPages(
                f"the file was cut short: {end - first_missing - len(free)} pages are missing"
            )

    def _look_down(self, *trees: _Tree) -> None:
        """Look at the pages of all trees, level by level, as far as the bound goes."""
        met: set[int] = set()
        waiting = deque((tree, 1, tree.root, 0) for tree in trees if tree.depth)
        while waiting and len(met) < _PAGES:
            tree, level, number, size = waiting.popleft()
            if number in met:
                raise DamagedPages(f"page {number} is in two places")
            met.add(number)
            if level > tree.depth:
                self._check_big_value(number, size)
                continue
            for node in self._nodes(tree, level, number):
                if node.below:
                    waiting.append((tree, level + 1, node.below, node.size))

    def _leaves(self, tree: _Tree) -> Iterator[_Node]:
        """Every entry of a tree."""
        return self._leaves_below(tree, 1, tree.root) if tree.depth else iter(())

    def _leaves_below(self, tree: _Tree, level: int, number: int) -> Iterator[_Node]:
        for node in self._nodes(tree, level, number):
            if level == tree.depth:
                yield node
            else:
                yield from self._leaves_below(tree, level + 1, node.below)

    def _nodes(self, tree: _Tree, level: int, number: int) -> list[_Node]:
        """The entries of a page: in order, apart from each other, and nothing beside them."""
        is_branch = level < tree.depth
        page = self._page(number, _BRANCH if is_branch else _LEAF)
        _, _, _, lower, upper = _PAGE.unpack_from(page)
        if not _PAGE.size < lower <= upper <= self._page_bytes:
            raise DamagedPages(f"page {number} is not in order")
        nodes: list[_Node] = []
        filled = upper
        for offset in array("H", page[_PAGE.size : lower]):
            if not upper <= offset <= self._page_bytes - _NODE.size or offset & 1:
                raise DamagedPages(f"page {number} has an entry out of place")
            node, end = self._branch(page, offset) if is_branch else self._entry(page, offset)
            if end > self._page_bytes:
                raise DamagedPages(f"an entry leaves page {number}")
            filled += end - offset + 1 & ~1  # LMDB begins each at an even place
            nodes.append(node)
        keys = [node.key for node in nodes][is_branch:]  # the first child of a branch needs none
        if filled != self._page_bytes or not _in_order(tree, keys):
            raise DamagedPages(f"the entries of page {number} are not in order")
        if is_branch and len(nodes) < 2 and tree.flags == _PLAIN:
            raise DamagedPages(f"page {number} has a single branch")
        if tree is not self._meta.main and any(node.flags == _SUB_DATABASE for node in nodes):
            raise DamagedPages(f"page {number} has a table within a table")
        return nodes

    def _branch(self, page: bytes, offset: int) -> tuple[_Node, int]:
        """A child on a branch page, and where its entry ends."""
        low, high, top, key_bytes = _NODE.unpack_from(page, offset)
        end = offset + _NODE.size + key_bytes
        child = low | high << 16 | top << 32
        self._check_number(child)
        return _Node(0, page[offset + _NODE.size : end], b"", 0, child), end

    def _entry(self, page: bytes, offset: int) -> tuple[_Node, int]:
        """An entry of a leaf page, and where it ends."""
        low, high, flags, key_bytes = _NODE.unpack_from(page, offset)
        start = offset + _NODE.size + key_bytes
        key, size = page[offset + _NODE.size : start], low | high << 16
        if flags not in (0, _BIG_VALUE, _SUB_DATABASE):
            raise DamagedPages("an entry is of no kind")
        if flags != _BIG_VALUE:
            return _Node(flags, key, page[start : start + size], size, 0), start + size
        (below,) = _NUMBER.unpack_from(page, start)
        self._check_number(below, self._page_count(size))
        return _Node(flags, key, b"", size, below), start + _NUMBER.size

    def _page_count(self, size: int) -> int:
        """How many pages a big value takes."""
        return (_PAGE.size + size - 1) // self._page_bytes + 1

    def _big_value(self, node: _Node) -> bytes:
        self._check_big_value(node.below, node.size)
        self._file.seek(node.below * self._page_bytes + _PAGE.size)
        return self._file.read(node.size)

    def _check_big_value(self, number: int, size: int) -> None:
        page = self._page(number, _OVERFLOW)
        (count,) = _PAGE_COUNT.unpack_from(page, _PAGE.size - _PAGE_COUNT.size)
        if count < self._page_count(size):
            raise DamagedPages(f"the value on page {number} is cut short")
        self._check_number(number, count)

    def _page(self, number: int, kind: int) -> bytes:
        self._check_number(number)
        self._file.seek(number * self._page_bytes)
        page = self._file.read(self._page_bytes)
        stored, _, flags, _, _ = _PAGE.unpack_from(page)
        if stored != number or flags != kind:
            raise DamagedPages(f"page {number} holds something else")
        return page

    def _check_number(self, number: int, count: int = 1) -> None:
        end = min(self._pages_in_file, self._meta.last_page + 1)
        if not 2 <= number <= end - count:
            raise DamagedPages(f"page {number} is missing")


def _check_tree(tree: _Tree, flags: int) -> None:
    if tree.flags != flags:
        raise DamagedPages("a table is of another kind")
    if tree.depth > _DEPTH or (tree.depth == 0) != (tree.root == _NOTHING):
        raise DamagedPages("a table has an impossible depth")


def _in_order(tree: _Tree, keys: list[bytes]) -> bool:
    if tree.flags == _INTEGER_KEYS:
        numbers = [number for key in keys for (number,) in (_NUMBER.unpack(key),)]
        return all(a < b for a, b in pairwise(numbers))
    sized = all(1 <= len(key) <= _KEY_BYTES for key in keys)
    return sized and all(a < b for a, b in pairwise(keys))
