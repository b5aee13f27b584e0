"""A draft: an operation's delta is what the join would give, and going back leaves no trace."""

from __future__ import annotations

from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from crdtdb.address import ObjectName
from crdtdb.datatype import StateType
from crdtdb.draft import Draft
from crdtdb.record import Record, join
from crdtdb.store.base import Table
from crdtdb.transaction import Transaction, Update
from oracle.executions import Execution
from replicas import Replica, update

_SEEDS = range(30)
#: An operation that is refused.
_REFUSED = Update(
    ObjectName("shop", "nosuchtype", "k"),
    update(ObjectName("shop", "flag", "k"), {"op": "enable"}).operation,
)


@pytest.mark.parametrize("number", _SEEDS)
def test_the_delta_of_an_operation_is_its_join(number: int) -> None:
    """`Draft.change` takes a shortcut past `join`; both must end in the same record."""
    change = Draft.change

    def check(
        draft: Draft, prefix: bytes, tail: bytes, own: StateType | None, delta: Record
    ) -> tuple[bool, bool]:
        old = draft.record(prefix + tail)
        assert join(old, delta, draft.seen, draft.seen.join(delta.context)) == delta
        return change(draft, prefix, tail, own, delta)

    with patch.object(Draft, "change", check):
        Execution(number).run()


@pytest.mark.parametrize("number", _SEEDS)
def test_a_transaction_that_is_refused_leaves_no_trace(number: int) -> None:
    """A group commit with refused transactions writes what one without them writes, to the byte.

    Each of them changes something first, mostly what others of the group change, too.
    """
    random = Random(number)
    operations: dict[str, list[dict[str, Any]]] = {
        "counter": [{"op": "increment"}, {"op": "reset"}],
        "set": [{"op": "add", "value": 1}, {"op": "remove", "value": 1}, {"op": "clear"}],
        "flag": [{"op": "enable"}, {"op": "disable"}, {"op": "delete"}],
        "opcounter": [{"op": "increment"}, {"op": "delete"}],
    }

    def some() -> list[Update]:
        names = [ObjectName("shop", random.choice(list(operations)), "k") for _ in range(3)]
        return [update(name, random.choice(operations[name.type])) for name in names]

    with_refused, without = Replica(1), Replica(1)
    for _ in range(6):
        accepted = [Transaction(tuple(some())) for _ in range(random.randrange(4))]
        everything = list(accepted)
        for _ in range(random.randrange(1, 4)):
            refused = Transaction((*some(), _REFUSED))
            everything.insert(random.randrange(len(everything) + 1), refused)
        outcomes = with_refused.engine.commit(everything).outcomes
        assert [outcome.error is None for outcome in outcomes] == [
            transaction in accepted for transaction in everything
        ]
        without.engine.commit(accepted)
        for table in set(Table) - {Table.META}:  # there is the time, which went on
            assert with_refused.rows()[table] == without.rows()[table]
        assert with_refused.seen == without.seen
