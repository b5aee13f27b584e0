"""A `text` against bare pycrdt: edits per second, and the bytes in which the last of them ship.

    python benchmarks/text.py [--trace FILE] [--edits N] [--rounds N] [--seed N] [--json FILE]

Both carry out the same edits, in turns: bare pycrdt on a document, crdtdb on an embedded database
in memory, each with 1,000 edits a transaction. FILE is recorded typing of one author
(josephg/editing-traces, `*.json.gz`); without one, edits are made up: typing on, here and there.
What ships of the last 100 edits is the record that a peer gets, with its address, of one
transaction (and, for information, of 100); bare pycrdt ships the difference to the state before.
"""

from __future__ import annotations

import argparse
import gzip
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeAlias

from pycrdt import Doc, Text

import command
from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.store.base import Table
from figures import Figure, Round, at_least, at_most
from machine import facts

__all__ = ["made_up", "measure"]

_TOGETHER: Final = 1_000
_LAST: Final = 100
_NAME: Final = ObjectName("bench", "text", "k")


class _Edit(NamedTuple):
    at: int
    deleted: int
    text: str


_Edits: TypeAlias = Sequence[_Edit]


class _Bare:
    """A document of pycrdt."""

    def __init__(self) -> None:
        self.doc: Doc[Any] = Doc()
        self.text: Text = self.doc.get("text", type=Text)

    def carry_out(self, edits: _Edits) -> None:
        with self.doc.transaction():
            for index, deleted, text in edits:
                if deleted:
                    del self.text[index : index + deleted]
                if text:
                    self.text.insert(index, text)

    def shown(self) -> str:
        return str(self.text)


class _Ours:
    """A text in an embedded database."""

    def __init__(self) -> None:
        self.database = Database.in_memory()
        self.text = self.database.text(_NAME.bucket, _NAME.key)

    def carry_out(self, edits: _Edits) -> None:
        with self.database.transaction() as transaction:
            text = transaction.text(_NAME.bucket, _NAME.key)
            for index, deleted, typed in edits:
                if deleted:
                    text.remove(index, deleted)
                if typed:
                    text.insert(index, typed)

    def shown(self) -> str:
        return self.text.get().value

    def record_bytes(self) -> int:
        """All operations, as peers get them."""
        with self.database.engine.store.snapshot() as snapshot:
            rows = snapshot.scan(Table.RECORDS, _NAME.prefix)
            return sum(len(at) + len(row) for at, row in rows)


def measure(edits: _Edits, rounds: int) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    yield Figure(
        "edits/s: text / bare pycrdt", at_least(0.5), [_speed(edits) for _ in range(rounds)]
    )
    shipped = [_shipping(edits, together) for together in (_LAST, 1)]
    yield Figure("bytes of the last 100 edits: text / bare pycrdt", at_most(1.5), shipped[:1])
    yield Figure("the same, one edit a transaction", None, shipped[1:])


def _speed(edits: _Edits) -> Round:
    bare, ours = _Bare(), _Ours()
    took_s = {"bare": 0.0, "text": 0.0}
    for several in _portions(edits, _TOGETHER):
        for name, side in (("bare", bare), ("text", ours)):
            began = perf_counter()
            side.carry_out(several)
            took_s[name] += perf_counter() - began
    assert bare.shown() == ours.shown()
    rate = {f"{name} edits/s": len(edits) / took for name, took in took_s.items()}
    return Round(took_s["bare"] / took_s["text"], rate)


def _shipping(edits: _Edits, together: int) -> Round:
    bare, ours = _Bare(), _Ours()
    for several in _portions(edits[:-_LAST], _TOGETHER):
        bare.carry_out(several)
        ours.carry_out(several)
    state, before = bare.doc.get_state(), ours.record_bytes()
    bare.carry_out(edits[-_LAST:])
    for several in _portions(edits[-_LAST:], together):
        ours.carry_out(several)
    sizes = {"bare": len(bare.doc.get_update(state)), "text": ours.record_bytes() - before}
    measured = {f"{name} bytes": float(size) for name, size in sizes.items()}
    return Round(sizes["text"] / sizes["bare"], measured)


def _portions(edits: _Edits, size: int) -> Iterator[_Edits]:
    left = iter(edits)
    while portion := list(islice(left, size)):
        yield portion


def _recorded(path: Path) -> list[_Edit]:
    """What one author typed; a replacement is two edits."""
    document = json.loads(gzip.decompress(path.read_bytes()))
    patches = [patch for change in document["txns"] for patch in change["patches"]]
    return [
        edit
        for index, deleted, text in patches
        for edit in (_Edit(index, deleted, ""), _Edit(index, 0, text))
        if edit.deleted or edit.text
    ]


def made_up(count: int, random: Random) -> list[_Edit]:
    """Somebody types on, deletes a little, and goes elsewhere now and then."""
    edits: list[_Edit] = []
    size = at = 0
    for _ in range(count):
        if random.random() < 0.02:
            at = random.randint(0, size)
        if at and random.random() < 0.15:
            at, size = at - 1, size - 1
            edits.append(_Edit(at, 1, ""))
        else:
            edits.append(_Edit(at, 0, random.choice("etaoin shrdlu")))
            at, size = at + 1, size + 1
    return edits


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    edits = (
        made_up(arguments.edits, Random(arguments.seed))
        if arguments.trace is None
        else _recorded(arguments.trace)[: arguments.edits]
    )
    figures = measure(edits, arguments.rounds)
    return command.tell({**facts(), **vars(arguments)}, figures, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Text against bare pycrdt, as ratios.")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="recorded typing")
    parser.add_argument("--edits", type=int, default=20_000, help="so many of them at most")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the first figure")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of what is made up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw rounds there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
