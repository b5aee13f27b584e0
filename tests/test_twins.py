"""Which replica an endpoint belongs to: late frames of one are not taken for two."""

from __future__ import annotations

import pytest

from crdtdb.errors import PeerError
from crdtdb.replication.messages import Sender
from crdtdb.replication.twins import Twins

_URL = "http://eu:8080"
_OLD, _NEW = (Sender("main", number, "eu-1", "eu", _URL, False) for number in (1, 2))


def is_refused(twins: Twins, sender: Sender, *, via: str = "", now_ms: int = 1_000) -> bool:
    """Does it speak, displaced by the other of the two, in vain?"""
    try:
        twins.check(sender, via, now_ms)
    except PeerError as error:
        return error.reason == "identity-conflict"
    return False


def test_frames_of_two_incarnations_in_any_order_prove_nothing() -> None:
    """They were sent by one replica, one after the other, and overtook each other."""
    twins = Twins()
    for _ in range(5):
        for sender, other in ((_OLD, _NEW), (_NEW, _OLD)):
            assert not is_refused(twins, sender)
            twins.displace(other.incarnation, sender)
    assert twins.refused(1_000) == {}


def test_who_answers_at_the_endpoint_is_there_and_the_other_is_not() -> None:
    twins = Twins()
    twins.displace(_NEW.incarnation, _OLD)
    twins.answered(_OLD, 100)
    twins.answered(_OLD, 200)
    assert is_refused(twins, _NEW)
    assert is_refused(twins, _NEW), "it stays so"
    assert "answers there" in twins.refused(1_000)[_URL]
    assert twins.refused(20_000) == {}


def test_an_answer_that_was_asked_for_before_proves_nothing() -> None:
    """The question was under way when the new incarnation spoke: the old one may be gone since.

    All frames of one answer count once.
    """
    twins = Twins()
    twins.displace(_NEW.incarnation, _OLD)
    twins.answered(_OLD, 100)
    twins.answered(_OLD, 100)
    assert not is_refused(twins, _NEW)


def test_what_was_proven_of_an_earlier_claim_does_not_count() -> None:
    twins = Twins()
    twins.displace(_NEW.incarnation, _OLD)
    twins.answered(_OLD, 100)
    assert not is_refused(twins, _NEW)
    twins.displace(_OLD.incarnation, _NEW)
    twins.displace(_NEW.incarnation, _OLD)
    twins.answered(_OLD, 200)
    assert not is_refused(twins, _NEW)


@pytest.mark.parametrize(
    "change",
    [
        {"via": _URL},
        {"now_ms": 10_200},
        {"sender": Sender("main", 2, "eu-1", "eu", "http://eu:8081", False)},
    ],
    ids=["it answers there itself", "the other is gone", "it is elsewhere now"],
)
def test_who_is_not_refused_any_more(change: dict[str, object]) -> None:
    twins = Twins()
    twins.displace(_NEW.incarnation, _OLD)
    twins.answered(_OLD, 100)
    twins.answered(_OLD, 200)
    assert not is_refused(twins, **({"sender": _NEW} | change))  # type: ignore[arg-type]


def test_who_was_put_back_is_no_twin_as_soon_as_it_answers_there() -> None:
    """The later incarnation, which answered there a moment ago, was that of the same replica."""
    twins = Twins()
    twins.displace(_OLD.incarnation, _NEW)
    twins.answered(_NEW, 100)
    twins.answered(_NEW, 200)
    assert is_refused(twins, _OLD), "its first words"
    assert _URL in twins.refused(1_000)
    assert not is_refused(twins, _OLD, via=_URL)
    assert twins.refused(1_000) == {}
    assert not is_refused(twins, _OLD)
