"""What happened, line by line: always hashed, and written out when somebody wants to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TextIO

import xxhash

from crdtdb import address
from crdtdb.causal import VersionVector, format_dot, format_incarnation
from crdtdb.replication.messages import News, Page, Pull, Push, Summary, read_frame
from crdtdb.transaction import Transaction, Update

__all__ = ["Trace", "told_commit", "told_frame"]


class Trace:
    """The lines of one run. Two runs of one seed have the same hash."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._hash = xxhash.xxh3_128()
        #: Incarnation, as it is written in full → a name that people can tell apart.
        self._names: dict[str, str] = {}

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()

    def named(self, incarnation: int, replica: str) -> None:
        """From now on show an incarnation as the replica's first, second, … life."""
        number = sum(name.startswith(replica + "#") for name in self._names.values())
        self._names.setdefault(format_incarnation(incarnation), f"{replica}#{number + 1}")

    def note(
        self, now_ms: int, where: str, what: str, told: Callable[[], str] | None = None
    ) -> None:
        """One line. `told` adds what only a reader wants; it is not hashed."""
        line = f"{now_ms} {where} {what}"
        self._hash.update(line.encode())
        if self._out is not None:
            if told is not None:
                line += " " + told()
            for full, name in self._names.items():
                line = line.replace(full, name)
            print(line, file=self._out)


def told_commit(transactions: Iterable[Transaction]) -> str:
    """A group commit as a reader wants it."""
    return " | ".join(
        ", ".join(
            f"{'/'.join(update.name)} {update.operation} {update.seen or ''}"
            if isinstance(update, Update)
            else f"{type(update).__name__} {_text(update.prefix)}"
            for update in transaction.updates
        )
        for transaction in transactions
    )


def told_frame(frame: bytes) -> str:
    """A message as a reader wants it: who has seen what, and which records are in it."""
    message = read_frame(frame)
    match message:
        case Push():
            dots = f"{format_dot((message.origin, message.first))}-{message.last}"
            return f"{dots} after {_vector(message.deps)}: {_addresses(message.records)}"
        case Pull():
            return f"{message.session} from {message.since}, has {_vector(message.seen)}"
        case Page():
            claim = "" if message.claim is None else f", claims {_vector(message.claim.seen)}"
            what = f"{message.since}-{message.next}: {_addresses(message.records)}"
            return f"{message.session} {what}{claim}"
        case Summary():
            reports = {format_incarnation(m): _vector(v) for m, v in message.reports.items()}
            return f"{_vector(message.seen)}, reports {reports}"
        case News():
            return f"{_vector(message.seen)}{', and you?' if message.answer else ''}"
        case _:
            return str(message)


def _vector(flat: list[int]) -> VersionVector | list[int]:
    """As it is, if it rests on a floor: only who takes it in knows that."""
    try:
        return VersionVector.from_flat(flat)
    except ValueError:
        return flat


def _addresses(records: Iterable[tuple[bytes, bytes]]) -> str:
    return ", ".join(_text(at) for at, _ in records)


def _text(at: bytes) -> str:
    cut = "cut " if address.is_cut(at) else ""
    return cut + at.lstrip(address.CUTS + address.DATA).decode(errors="replace").replace("\0", "/")
