"""crdtdb's own server with one thing taken away or changed, so that what it costs can be measured.

    python benchmarks/variants.py VARIANT serve --data-dir DIRECTORY …

- `no-storage`: writes are read, checked and gathered as always, and then answered with the same
  value each: no engine works them out, no store takes them.
- `in-memory`: all work is done, on a store in memory.
- `ungrouped`: each write has a commit of its own.
- `short-memory`: the log is folded 16 times as often, what was answered under an idempotency key is
  known for a minute, and deletes stay for readers of the feed for as long; so after a few minutes
  everything has its full size.

Front, routes, gathering and answers are the ones of the product, in the same places.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final
from unittest.mock import patch

from crdtdb import idempotency
from crdtdb.datatype import Stamp
from crdtdb.engine import Drafted, Engine
from crdtdb.replication import reclaiming
from crdtdb.store.logged import LoggedStore, Pace
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import Committed, Outcome, Result, Transaction
from crdtdb_server import writer
from crdtdb_server.shell import main

__all__ = ["VARIANTS", "program"]

_OFTEN: Final = 16
_MINUTE_MS: Final = 60_000
_sequence = count(1)
_truly_draft: Final = Engine.draft


def program(variant: str) -> tuple[str, ...]:
    """What Python is to run for a variant."""
    return (__file__, variant)


def _draft(engine: Engine, transactions: Sequence[Transaction]) -> Drafted:
    outcomes = tuple(_outcome(engine, transaction) for transaction in transactions)
    return Drafted(Committed(outcomes, None, engine.state.seen), None)


def _commit(engine: Engine, transactions: Sequence[Transaction]) -> Committed:
    """The system's own, such as being a member: carried out."""
    drafted = _truly_draft(engine, transactions)
    engine.persist(drafted)
    return engine.install(drafted)


def _outcome(engine: Engine, transaction: Transaction) -> Outcome:
    number = next(_sequence)
    state = engine.state
    stamp = Stamp((state.incarnation, number), state.time)
    result = Result(changed=True, value=number, stamp=stamp)
    return Outcome((result,) * len(transaction.updates), None, number, number + 1, None, number)


def _no_storage() -> list[AbstractContextManager[object]]:
    return [*_in_memory(), patch.multiple(Engine, draft=_draft, commit=_commit)]


def _in_memory() -> list[AbstractContextManager[object]]:
    def open_store(path: Path) -> MemoryStore:
        return MemoryStore(str(path).encode())

    return [patch.object(LoggedStore, "open", open_store)]


def _ungrouped() -> list[AbstractContextManager[object]]:
    return [patch.multiple(writer, BATCH_TRANSACTIONS=1, GATHERING_TURNS=0)]


def _short_memory() -> list[AbstractContextManager[object]]:
    whole = Pace()
    often = whole._replace(
        layer_entries=whole.layer_entries // _OFTEN,
        layer_bytes=whole.layer_bytes // _OFTEN,
        log_bytes=whole.log_bytes // _OFTEN,
    )
    return [
        patch.object(LoggedStore, "open", partial(LoggedStore.open, pace=often)),
        patch.object(idempotency, "KEPT_MS", _MINUTE_MS),
        patch.object(reclaiming, "FEED_MS", _MINUTE_MS),
    ]


VARIANTS: Final[Mapping[str, Callable[[], list[AbstractContextManager[object]]]]] = {
    "no-storage": _no_storage,
    "in-memory": _in_memory,
    "ungrouped": _ungrouped,
    "short-memory": _short_memory,
}


if __name__ == "__main__":
    with ExitStack() as _patched:
        for _patch in VARIANTS[sys.argv.pop(1)]():
            _patched.enter_context(_patch)
        sys.exit(main())
