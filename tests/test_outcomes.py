"""What a commit says of each of its transactions: conditions, kept answers, sequence numbers."""

from __future__ import annotations

from crdtdb.address import ObjectName, bucket_prefix
from crdtdb.errors import IdempotencyMismatch, PreconditionFailed
from crdtdb.idempotency import KEPT_MS
from crdtdb.reading import Reading
from crdtdb.transaction import (
    Erase,
    Expectation,
    IdempotencyKey,
    Outcome,
    Transaction,
    Update,
)
from replicas import Replica, update

_VIEWS = ObjectName("shop", "register", "views")
_OTHER = ObjectName("shop", "register", "other")


def _set(name: ObjectName = _VIEWS, value: int = 1) -> Update:
    return update(name, {"op": "set", "value": value})


def _commit(replica: Replica, *transactions: Transaction) -> tuple[Outcome, ...]:
    return replica.engine.commit(transactions).outcomes


def _sequence(replica: Replica, name: ObjectName = _VIEWS) -> int:
    with replica.store.snapshot() as snapshot:
        return Reading(snapshot).head(name.prefix).sequence


def _expecting(*sequences: int) -> Transaction:
    return Transaction((_set(),), (Expectation(_VIEWS, frozenset(sequences)),))


def test_the_sequence_number_is_that_of_the_head() -> None:
    replica = Replica(1)
    (first,) = _commit(replica, Transaction((_set(),), watch=_VIEWS))
    assert first.sequence == _sequence(replica) > 0
    (other,) = _commit(replica, Transaction((_set(_OTHER),), watch=_OTHER))
    assert other.sequence == _sequence(replica, _OTHER) > first.sequence
    (unwatched,) = _commit(replica, Transaction((_set(),)))
    assert unwatched.sequence is None


def test_a_write_that_changes_nothing_gives_the_number_there_is() -> None:
    replica = Replica(1)
    delete = Transaction((update(_VIEWS, {"op": "delete"}),), watch=_VIEWS)
    assert _commit(replica, delete)[0].sequence == 0
    _commit(replica, Transaction((_set(),)), delete)
    assert _commit(replica, delete)[0].sequence == _sequence(replica)


def test_who_did_not_see_the_last_change_does_not_get_its_number() -> None:
    replica = Replica(1)
    write = Transaction((_set(),), watch=_VIEWS)
    first, _, last = _commit(replica, write, Transaction((_set(_OTHER),)), write)
    assert (first.sequence, last.sequence) == (None, _sequence(replica))
    erase = Transaction((Erase(bucket_prefix("shop")),))
    assert _commit(replica, write, erase)[0].sequence is None
    elsewhere = Transaction((Erase(bucket_prefix("bar")),))
    assert _commit(replica, write, elsewhere)[0].sequence == _sequence(replica)
    refused = Transaction((_set(),), (Expectation(_VIEWS, frozenset()),))
    assert _commit(replica, write, refused)[0].sequence == _sequence(replica)


def test_an_expectation_holds_until_the_object_changes() -> None:
    replica = Replica(1)
    _commit(replica, Transaction((_set(),)))
    old = _sequence(replica)
    _commit(replica, Transaction((_set(_OTHER),)))
    assert _commit(replica, _expecting(old))[0].error is None
    (outcome,) = _commit(replica, _expecting(old))
    assert isinstance(outcome.error, PreconditionFailed)
    assert _commit(replica, _expecting(old, _sequence(replica)))[0].error is None


def test_only_the_first_of_a_commit_meets_the_expectation() -> None:
    replica = Replica(1)
    first, second = _commit(replica, _expecting(0), _expecting(0))
    assert first.error is None
    assert isinstance(second.error, PreconditionFailed)


def test_an_object_may_be_expected_to_exist() -> None:
    replica = Replica(1)
    existing = Transaction((_set(),), (Expectation(_VIEWS, None),))
    assert isinstance(_commit(replica, existing)[0].error, PreconditionFailed)
    made, used = _commit(replica, Transaction((_set(),)), existing)
    assert (made.error, used.error) == (None, None)


def test_a_key_is_good_for_one_request_and_a_day() -> None:
    replica = Replica(1)
    keyed = Transaction((_set(),), key=IdempotencyKey("k", 1), watch=_VIEWS)
    first, again = _commit(replica, keyed, keyed)
    assert first.replayed is None
    assert again.replayed == replica.seen
    assert again.results == tuple(result._replace(stamp=None) for result in first.results)
    # The repetition changed nothing, so the first writer has seen all there is.
    assert (first.sequence, again.sequence) == (_sequence(replica), None)
    (other,) = _commit(replica, keyed._replace(key=IdempotencyKey("k", 2)))
    assert isinstance(other.error, IdempotencyMismatch)

    replica.reopen()
    seen = replica.seen
    assert _commit(replica, keyed)[0].replayed == seen == replica.seen
    replica.now_ms += KEPT_MS
    assert _commit(replica, keyed)[0].replayed is None
    assert replica.seen != seen


def test_a_key_that_is_taken_again_later_is_kept_as_long_as_any() -> None:
    """Its first row falls due after those of others, and must not take the new answer along."""
    replica = Replica(1)

    def sent(key: str) -> bool:
        """Is this a repetition?"""
        transaction = Transaction((_set(),), key=IdempotencyKey(key, 1))
        (outcome,) = _commit(replica, transaction)
        return outcome.replayed is not None

    for number in range(20):
        sent(f"early {number}")
    replica.now_ms += 1
    sent("again")
    replica.now_ms += KEPT_MS
    assert not sent("again"), "a day has gone by"
    replica.now_ms += 1
    for number in range(20):
        sent(f"late {number}")
    assert sent("again")
