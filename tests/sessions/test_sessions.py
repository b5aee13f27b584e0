"""Sessions that hop between replicas see no violation; a checker that sees none is no checker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.guarantees import Seen, Session, Violation
from sessions.hopping import hop


def test_no_guarantee_is_violated(tmp_path: Path) -> None:
    report = hop(tmp_path, seed=1, operations=10_000)
    print(report)
    assert report.operations >= 10_000
    assert report.behind, "no replica was ever behind: nothing was put to the test"


def test_without_tokens_violations_are_seen(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        hop(tmp_path, seed=1, operations=10_000, tokens=False)
    assert caught.group_contains(Violation)


_NEW = Seen(0, 0, None)


def _lost_write(session: Session) -> None:
    session.incremented(1)
    session.check([_NEW, _NEW])


def _lost_increment(session: Session) -> None:
    session.incremented(1)
    session.incremented(1)
    session.incremented(1)


def _back_in_time(session: Session) -> None:
    session.check([_NEW, Seen(2, 2, None)])
    session.check([_NEW, Seen(2, 1, None)])


def _second_write_first(session: Session) -> None:
    session.check([_NEW, Seen(1, 2, None)])


def _effect_before_cause(session: Session) -> None:
    session.check([_NEW, Seen(1, 1, (0, 1))])


@pytest.mark.parametrize(
    ("history", "guarantee"),
    [
        (_lost_write, "read your writes"),
        (_lost_increment, "read your writes"),
        (_back_in_time, "monotonic reads"),
        (_second_write_first, "monotonic writes"),
        (_effect_before_cause, "writes follow reads"),
    ],
)
def test_a_bad_history_is_rejected(history: Callable[[Session], None], guarantee: str) -> None:
    with pytest.raises(Violation, match=guarantee):
        history(Session(0, 2))


def test_a_good_history_is_accepted() -> None:
    session = Session(0, 2)
    session.incremented(1)
    session.noted((1, 0))
    session.check([Seen(1, 0, (1, 0)), Seen(1, 1, (0, 1))])
