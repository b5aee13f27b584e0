"""The hybrid logical clock: never back, never moved by a clock that is far ahead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtdb import hlc

times = st.integers(0, hlc.MOST) | st.integers(0, 1 << 20)
#: Wall clocks may show anything.
clocks_ms = st.integers(0, 1 << 48) | st.integers(-(1 << 70), 1 << 70)
DRIFT_MS = 5_000


@given(times, clocks_ms)
def test_a_tick_comes_after_the_last_time_and_not_before_the_clock(last: int, now_ms: int) -> None:
    time = hlc.tick(last, now_ms)
    assert 0 <= time <= hlc.MOST
    assert time > last or time == hlc.MOST
    assert hlc.milliseconds(time) >= min(now_ms, hlc.milliseconds(hlc.MOST))
    assert time == last + 1 or hlc.milliseconds(time) == now_ms or time in (0, hlc.MOST)


@given(times, times, clocks_ms)
def test_what_was_observed_comes_before_the_next_tick(last: int, remote: int, now_ms: int) -> None:
    seen, refused = hlc.observe(last, remote, now_ms, DRIFT_MS)
    assert refused == (hlc.milliseconds(remote) > now_ms + DRIFT_MS)
    assert seen == (last if refused else max(last, remote))
    time = hlc.tick(seen, now_ms)
    assert time > last or time == hlc.MOST
    assert refused or time > remote or time == hlc.MOST


@given(times, st.lists(st.tuples(times, clocks_ms), max_size=20))
def test_no_peer_moves_a_clock_beyond_the_drift(last: int, heard: list[tuple[int, int]]) -> None:
    bound = last
    for remote, now_ms in heard:
        last = hlc.observe(last, remote, now_ms, DRIFT_MS).last
        bound = max(bound, ((now_ms + DRIFT_MS + 1) << hlc.LOGICAL_BITS) - 1)
        assert last <= bound


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 16) - 1))
def test_a_time_is_milliseconds_and_a_count(ms: int, count: int) -> None:
    time = (ms << hlc.LOGICAL_BITS) + count
    assert hlc.milliseconds(time) == ms
    assert hlc.tick(time, ms) in (time + 1, hlc.MOST)
