"""Vectors told against a base: read as they were meant, or not at all."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.errors import PeerError
from crdtdb.replication.bases import Bases, UnknownBase, tell, whole

#: Few incarnations, so that vectors have some in common.
_entries: Final = st.dictionaries(
    st.integers(0, 30).map(lambda i: 2**60 + i), st.integers(1, 2**40), max_size=30
)
_flats: Final = st.builds(
    lambda floor, entries: [*floor, *VersionVector(entries).flat()],
    st.sampled_from([(), (77,), (78,)]),
    _entries,
)


@given(_flats, _flats)
def test_what_is_told_against_a_base_is_read_as_it_was(flat: list[int], base: list[int]) -> None:
    told = tell(flat, base)
    assert whole(told, {codec.fingerprint(base): base}) == flat
    assert len(codec.pack(told)) <= len(codec.pack(flat))


@given(_flats)
def test_what_differs_little_takes_few_bytes(base: list[int]) -> None:
    rest = len(base) % 2
    flat = list(base)
    flat[rest + 1 : rest + 2] = [counter + 7 for counter in flat[rest + 1 : rest + 2]]
    assert len(codec.pack(tell(flat, base))) <= min(16, len(codec.pack(flat)))


@given(_flats, _flats, _flats)
def test_another_base_is_never_taken_for_it(
    flat: list[int], base: list[int], other: list[int]
) -> None:
    told = tell(flat, base)
    if told == flat or other == base:
        return
    with pytest.raises(UnknownBase):
        whole(told, {codec.fingerprint(other): other})


@pytest.mark.parametrize(
    "told",
    [
        [],
        [0],
        [0, 1],
        [0, 2, 0],
        [0, 2, 0, 1],
        [0, -1],
        [0, -1, 1, 1],
        [0, 1, 2, 1],
        [0, 1, -1, 1],
        [0, 1, 0, -6],
        [0, 2, 1, 1, 0, 1],
        [0, 2, 0, 1, 0, 1],
        [0, 0, 1],
    ],
)
def test_a_vector_that_was_never_told_is_refused(told: list[int]) -> None:
    base = [3, 5, 4, 9]
    if told:
        told = [codec.fingerprint(base), *told[1:]]
    with pytest.raises(PeerError, match="base"):
        whole([-2, *told], {codec.fingerprint(base): base})


class _Talk(RuleBasedStateMachine):
    """Two replicas ask each other; questions and answers are lost, and either starts anew."""

    sides: Final = st.sampled_from([0, 1])
    questions: Bundle[tuple[int, list[int], list[int]]] = Bundle("questions")
    answers: Bundle[tuple[int, list[int], list[int]]] = Bundle("answers")

    def __init__(self) -> None:
        super().__init__()
        self.bases = [Bases(), Bases()]
        self.flats: list[list[int]] = [[], []]

    @rule(side=sides, incarnation=st.integers(2**60, 2**60 + 20), more=st.integers(1, 9))
    def sees_more(self, side: int, incarnation: int, more: int) -> None:
        entries = VersionVector.from_flat(self.flats[side])
        grown = entries.with_dot((incarnation, entries.get(incarnation) + more))
        self.flats[side] = grown.flat()

    @rule(target=questions, side=sides)
    def asks(self, side: int) -> tuple[int, list[int], list[int]]:
        flat = self.flats[side]
        return side, flat, self.bases[side].asking(1 - side, flat)

    @rule(target=answers, question=questions)
    def is_asked(
        self, question: tuple[int, list[int], list[int]]
    ) -> tuple[int, list[int], list[int]]:
        asker, meant, told = question
        mine = self.bases[1 - asker]
        flat = self.flats[1 - asker]
        try:
            assert mine.reading(asker, told) == meant
        except UnknownBase:
            mine.forget(asker)
            return 1 - asker, flat, flat
        mine.heard(asker, meant)
        return 1 - asker, flat, mine.telling(asker, flat)

    @rule(answer=answers)
    def is_answered(self, answer: tuple[int, list[int], list[int]]) -> None:
        side, meant, told = answer
        try:
            assert self.bases[1 - side].reading(side, told) == meant
        except UnknownBase:
            self.bases[1 - side].forget(side)

    @rule(side=sides)
    def starts_anew(self, side: int) -> None:
        self.bases[side] = Bases()


test_talk_of_two = _Talk.TestCase


def test_who_talks_often_is_told_what_is_new() -> None:
    """And who asks is never told more than once what he has."""
    one, other = Bases(), Bases()
    mine = VersionVector({2**60 + i: 1 for i in range(40)})
    theirs = mine
    for number in range(2, 50):
        mine = mine.with_dot((2**60 + number % 7, number))
        theirs = theirs.with_dot((2**60 + 20 + number % 7, number))
        told = one.asking(2, mine.flat())
        assert number == 2 or len(told) < 20
        assert other.reading(1, told) == mine.flat()
        other.heard(1, mine.flat())
        answer = other.telling(1, theirs.flat())
        assert len(answer) < 60
        assert one.reading(2, answer) == theirs.flat()


def test_what_is_kept_is_bounded() -> None:
    bases = Bases()
    for peer in range(1_000):
        for counter in range(1, 20):
            bases.asking(peer, [5, counter])
            bases.heard(peer, [6, counter])
        bases.heard(peer, [number for i in range(1_000) for number in (i, 1)])
    kept = [
        vector
        for known in bases._known.values()
        for vector in (*known.asked.values(), *known.heard.values())
    ]
    assert len(kept) <= 64 * 8
    assert max(map(len, kept)) <= 1_024
