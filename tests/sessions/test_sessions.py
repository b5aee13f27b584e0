"""Sessions that hop between replicas see no violation, unless they carry no tokens."""

from __future__ import annotations

from pathlib import Path

from sessions.hopping import hop, judge


def test_no_guarantee_is_violated(tmp_path: Path) -> None:
    report = hop(tmp_path, seed=1, operations=10_000)
    print(report)
    assert report.operations >= 10_000
    assert report.behind, "no replica was ever behind: nothing was put to the test"
    assert judge(report.history) == []


def test_without_tokens_violations_are_seen(tmp_path: Path) -> None:
    report = hop(tmp_path, seed=1, operations=10_000, tokens=False)
    found = {violation.check for violation in judge(report.history)}
    assert {"read your writes", "monotonic reads"} <= found
