"""The steady use of a cluster: every kind of step is taken, and what is watched is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import soak
from soak import Sample


def test_a_short_run_watches_every_replica_and_ends_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = asyncio.run(soak.measure(4.0, 1, tmp_path))
    assert len({figure.name for figure in figures}) == 9, "three figures of each replica"
    *told, steps = capsys.readouterr().out.splitlines()
    assert len(told) == 1
    assert int(steps.split()[0].replace(",", "")) > 0


def test_what_grows_is_told_from_what_stays() -> None:
    def samples(grown_bytes_per_s: int) -> list[Sample]:
        return [Sample(at_s, 2**26 + at_s * grown_bytes_per_s, 20, 2**20) for at_s in range(100)]

    staying, *_ = soak.told([samples(0)] * 3)
    assert (staying.ratio, staying.holds) == (0, True)
    growing, files, directory, *_ = soak.told([samples(2**14)] * 3)
    assert growing.ratio == pytest.approx(2**14 * 3_600 / 2**20)
    assert not growing.holds
    assert (files.ratio, directory.ratio) == (1, 1)


def test_one_replica_that_grows_is_enough_to_miss() -> None:
    staying = [Sample(at_s, 2**26, 20, 2**20) for at_s in range(100)]
    growing = [Sample(at_s, 2**26, 20 + at_s, 2**20) for at_s in range(100)]
    missed = [figure.name for figure in soak.told([staying, staying, growing]) if not figure.holds]
    assert missed == ["three: open files, end / middle"]
