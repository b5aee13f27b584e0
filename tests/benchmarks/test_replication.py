"""The figures of replication, in their quick form: counts and bytes, the same in every run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest

import replication
from catch_up import Pair
from dissemination import dissemination
from figures import Figure, Round, at_most
from overlays import Overlay, make, overlays, random_mesh
from replication import BENCHMARKS, Extent
from updates import update

_QUICK = Extent.of(1, None, quick=True)


#: What is missed, and why, is in `benchmarks/README.md`.
_MISSED = {"skew": ["Retwis, 16 replicas, Zipf 0.5 and 1.5: bytes / least, apart"]}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_target_is_kept_but_those_known_to_be_missed(name: str) -> None:
    figures = list(BENCHMARKS[name](_QUICK))
    assert figures
    missed = [figure for figure in figures if not figure.holds]
    assert [figure.name for figure in missed] == _MISSED.get(name, []), missed


def test_the_same_seed_gives_the_same_counts() -> None:
    first, second = (
        [figure.as_dict() for figure in dissemination(make("tree-15"), 3, 7)] for _ in range(2)
    )
    assert first == second


def test_nothing_is_sent_less_often_than_it_must_be() -> None:
    """What is counted is all there is: nobody gets a record on a way of which no count is kept."""
    sent, _ = dissemination(make("partialmesh-15"), 3, 7)
    (measured,) = (one.measured for one in sent.rounds)
    assert measured["least"] == 15 * 3 * 14
    assert measured["records sent"] >= measured["least"]


def test_what_is_asked_of_stores_is_counted() -> None:
    pair = Pair(1, "counting")
    pair.calls.clear()
    pair.donor.write(update("set", "all", "add", value="x"))
    assert pair.calls["commits"] == 1
    assert pair.calls["gets"] > 0


@pytest.mark.parametrize(
    ("overlay", "size", "diameter"),
    [
        (make("tree-15"), 15, 6),
        (make("partialmesh-15"), 15, 3),
        (make("partialmesh-64"), 64, 9),
        (Overlay("ring", [[3, 1], [0, 2], [1, 3], [2, 0]]), 4, 2),
    ],
)
def test_an_overlay_and_its_diameter(overlay: Overlay, size: int, diameter: int) -> None:
    assert len(overlay.neighbours) == size
    assert overlay.diameter == diameter
    for one, others in enumerate(overlay.neighbours):
        assert one not in others
        assert all(one in overlay.neighbours[other] for other in others)


def test_an_overlay_in_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="not connected"):
        Overlay("parts", [[1], [0], [3], [2]]).diameter  # noqa: B018 - asking is what is tested


def test_overlays_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "overlays.json"
    file.write_text('{"tree-3": [[1], [0, 2], [1]]}')
    assert overlays(file, ["tree-3"]) == [Overlay("tree-3", [[1], [0, 2], [1]])]


def test_a_random_mesh_has_as_many_links_as_it_shall() -> None:
    mesh = random_mesh(50, 10, Random(1))
    assert sum(map(len, mesh.neighbours)) == 50 * 10
    assert mesh.diameter < 10


@pytest.mark.parametrize(("ratio", "code"), [(1.0, 0), (1.2, 1)])
def test_the_command_says_whether_a_target_is_missed(
    ratio: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figure = Figure("bytes / least", at_most(1.1), [Round(ratio, {"bytes": 7})])
    monkeypatch.setattr(replication, "BENCHMARKS", {"counter": lambda _: iter([figure])})
    file = tmp_path / "replication.json"
    absent = tmp_path / "absent.json"
    arguments = ["--quick", "--seed", "5", "--only", "counter", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["replication.py", *arguments, "--topologies", str(absent)])
    assert replication.main() == code
    shown = capsys.readouterr().out
    assert "absent.json is not there: overlays are made" in shown
    assert ("missed: bytes / least" in shown) is bool(code)
    document = json.loads(file.read_text())
    assert (document["seed"], document["quick"]) == (5, True)
    assert [one["name"] for one in document["figures"]] == ["bytes / least"]
