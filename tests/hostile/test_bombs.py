"""Each bomb of the benchmark's corpus is refused, and changes nothing. (What others feel of it, and
how soon it is refused, `benchmarks/bombs.py` measures.)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from liveserver import live_server
from processes import DEADLINE_S

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with live_server() as url:
        httpx2.post(
            f"{url}/v1/buckets/shop/register/k", json={"op": "set", "value": 1}, timeout=DEADLINE_S
        )
        yield url


def test_a_bomb_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(_BENCHMARKS))
    from bomb_corpus import CORPUS
    from bombs import refusal

    assert len(CORPUS) >= 40
    before = httpx2.get(f"{url}/v1/digest", timeout=DEADLINE_S).json()
    for bomb in CORPUS:
        status = refusal(int(url.rpartition(":")[2]), bomb)
        assert status in bomb.statuses, bomb.name
        assert 400 <= status < 500, bomb.name
    assert httpx2.get(f"{url}/v1/digest", timeout=DEADLINE_S).json() == before
