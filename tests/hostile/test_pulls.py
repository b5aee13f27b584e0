"""Attacks by a donor: on what a pull stages, on its end, and on what it claims."""

from __future__ import annotations

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.replication import Phase, staging
from crdtdb.replication.messages import Claim, Gone, Message, Page, Pull, Refused
from hostile.arena import ATTACKER, Arena, sent

SET = ObjectName("shop", "set", "k")
DOT = (ATTACKER, 1)
EPOCH = 5


def member(value: str) -> tuple[bytes, bytes]:
    """A record that adds a member."""
    return sent(address.member(SET, value), None, DOT)


def claim(arena: Arena, *records: tuple[bytes, bytes], seen: VersionVector | None = None) -> Page:
    """A last page; its session and place are to be filled in."""
    claimed = arena.a.seen.with_dot(DOT) if seen is None else seen
    return Page(0, 0, EPOCH, 9, list(records), Claim(claimed.flat(), 0))


def to(request: Pull, page: Page) -> Page:
    """The same page as the answer to a request."""
    return Page(request.session, request.since, page.epoch, page.next, page.records, page.claim)


def test_an_honest_pull_is_taken(arena: Arena) -> None:
    """Else the attacks would prove nothing."""
    page = claim(arena, member("pulled"))
    arena.offer(lambda request: to(request, page))
    assert "pulled" in arena.a.replica.value("set")
    arena.recover()
    assert "pulled" in arena.b.replica.value("set")


@pytest.mark.parametrize(
    "change",
    [
        lambda r: Page(r.session + 1, r.since, EPOCH, 9, [member("x")], Claim([*DOT], 0)),
        lambda r: Page(r.session, r.since + 1, EPOCH, 9, [member("x")], Claim([*DOT], 0)),
    ],
    ids=["another session", "another place"],
)
def test_a_page_that_was_not_asked_for(arena: Arena, change: object) -> None:
    arena.offer(change)  # type: ignore[arg-type]
    assert "x" not in arena.a.replica.value("set")
    arena.recover()


def test_a_page_to_nobody_who_asked(arena: Arena) -> None:
    assert arena.attack(claim(arena, member("x"))) is None
    assert "x" not in arena.a.replica.value("set")
    assert arena.a.seen.get(ATTACKER) == 0
    arena.recover()


def test_the_same_page_for_ever(arena: Arena) -> None:
    """The second time it leads nowhere: the pull is over, and the donor is left alone."""
    requests = _answer_all(arena, lambda r: Page(r.session, r.since, EPOCH, 7, [], None))
    assert len(requests) == 2
    assert arena.a.refused("endless-pull") == 1
    assert arena.a.machine.phase is Phase.SERVING
    arena.recover()


def test_endless_pages(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pull stages is bounded, in bytes."""
    monkeypatch.setattr(staging, "STAGED_BYTES", 10_000)
    requests = _answer_all(
        arena,
        lambda r: Page(r.session, r.since, EPOCH, r.since + 1, [member(f"x{r.since:04}")], None),
    )
    assert 10 < len(requests) < 1_000
    assert arena.a.refused("endless-pull") == 1
    assert arena.a.machine.phase is Phase.SERVING
    assert arena.a.replica.value("set") == ["kept"]
    arena.recover()


def test_one_record_on_endless_pages(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it counts anew."""
    monkeypatch.setattr(staging, "STAGED_BYTES", 10_000)
    requests = _answer_all(
        arena,
        lambda r: Page(r.session, r.since, EPOCH, r.since + 1, [member("x")], None),
    )
    assert 10 < len(requests) < 1_000
    assert arena.a.refused("endless-pull") == 1
    assert arena.a.machine.phase is Phase.SERVING
    arena.recover()
    assert "x" not in arena.a.replica.value("set")


def test_a_donor_that_falls_silent(arena: Arena) -> None:
    """It is left for another, and what it has sent is not shown."""
    left = 100

    def answer(message: Message) -> list[Message]:
        nonlocal left
        if not isinstance(message, Pull) or not left:
            return []
        left -= 1
        since = message.since
        return [Page(message.session, since, EPOCH, since + 1, [member("x")], None)]

    arena.answers = answer
    arena.lure()
    assert left == 0
    assert arena.a.machine.pulls_from == "x"
    arena.recover()
    # The replica was started again meanwhile, and went on where it stood, for as long.
    arena.run(10_000)
    assert arena.a.machine.pulls_from is None
    assert "x" not in arena.a.replica.value("set")


def test_pages_that_never_claim(arena: Arena) -> None:
    """Nothing of them is shown, and what another donor has is fetched all the same."""
    arena.offer(lambda r: Page(r.session, r.since, EPOCH, 3, [member("x")], None))
    arena.away = {"a"}
    arena.write("set", "add", by_whom="b", value="elsewhere")
    arena.away = set()
    assert arena.a.machine.phase is Phase.CATCHING_UP
    arena.recover()
    assert {"elsewhere", "kept"} <= set(arena.a.replica.value("set"))
    assert "x" not in arena.a.replica.value("set")


def test_a_refused_record_blocks_the_claim(arena: Arena) -> None:
    """It is not skipped: else it would never come again."""
    bad = member("bad")[0], member("other")[1]
    page = claim(arena, member("good"), bad, member("too"))
    arena.offer(lambda request: to(request, page))
    assert arena.a.seen.get(ATTACKER) == 0
    assert arena.a.replica.value("set") == ["kept"]
    assert arena.a.machine.phase is Phase.SERVING
    wait_ms = arena.a.machine.peers[ATTACKER].wait_ms
    assert wait_ms > 0
    arena.recover()


def test_a_donor_of_bad_records_is_asked_less_and_less(arena: Arena) -> None:
    bad = member("bad")[0], member("other")[1]
    page = claim(arena, bad)
    requests = 0

    def answer(message: Message) -> list[Message]:
        nonlocal requests
        if not isinstance(message, Pull):
            return []
        requests += 1
        return [to(message, page)]

    arena.answers = answer
    for _ in range(600):
        arena.lure()
        arena.run(100)
    assert 3 <= requests <= 10
    arena.recover()


def test_a_claim_of_less_than_its_records(arena: Arena) -> None:
    page = claim(arena, member("ahead"), seen=arena.a.seen)
    arena.offer(lambda request: to(request, page))
    assert arena.a.replica.value("set") == ["kept"]
    arena.recover()


def test_claims_that_go_back(arena: Arena) -> None:
    """What was seen stays seen."""
    seen = arena.a.seen
    for claimed in (seen.with_dot(DOT), VersionVector({ATTACKER: 1}), VersionVector()):
        page = claim(arena, seen=claimed)
        arena.offer(lambda request, page=page: to(request, page))  # type: ignore[misc]
        arena.run(2_000)
        assert arena.a.seen.includes(seen)
    arena.recover()
    assert arena.a.seen.includes(seen)


@pytest.mark.parametrize("flat", [[1], [9, 1, 3, 1], [3, 0], [3, 1 << 63]])
def test_a_claim_that_is_no_vector(arena: Arena, flat: list[int]) -> None:
    def answer(request: Pull) -> Page:
        return Page(request.session, request.since, EPOCH, 9, [], Claim(flat, 0))

    arena.offer(answer)
    assert arena.a.seen.get(ATTACKER) == 0
    arena.recover()


def test_gone_for_ever(arena: Arena) -> None:
    """A donor that says again and again that the pull must be a whole one."""
    rounds = 0

    def answer(message: Message) -> list[Message]:
        nonlocal rounds
        if isinstance(message, Pull) and rounds < 500:
            rounds += 1
            return [Gone(message.session, [*DOT])]
        return []

    arena.answers = answer
    arena.lure()
    arena.recover()
    assert arena.a.machine.phase is Phase.SERVING


def test_a_refusal_by_who_was_not_asked(arena: Arena) -> None:
    """It ends no pull from somebody else."""
    arena.away = {"a"}
    arena.write("set", "add", by_whom="b", value="elsewhere")
    arena.away = set()
    for _ in range(100):
        assert arena.attack(Refused("bootstrapping")) is None
        arena.run(100)
    arena.recover()
    assert "elsewhere" in arena.a.replica.value("set")


def _answer_all(arena: Arena, page: object) -> list[Pull]:
    """Answer every request with such a page; returns the requests."""
    requests: list[Pull] = []

    def answer(message: Message) -> list[Message]:
        if not isinstance(message, Pull):
            return []
        requests.append(message)
        assert len(requests) < 1_000, "without an end"
        return [page(message)]  # type: ignore[operator]

    arena.answers = answer
    arena.lure()
    return requests
