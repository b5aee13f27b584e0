"""The server does what its OpenAPI document says: schemathesis asks it things it never thought of.

Every case comes from the document alone, whether it fits the schemas or (mostly) just fails to. The
short form of `make hostile`.
"""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from hostile.asking import PHASES, answered, ask, bugs
from liveserver import live_server
from processes import DEADLINE_S

#: Of each operation, in each phase.
_CASES = 8


@pytest.mark.parametrize(
    ("phases", "requests", "understood"),
    [(PHASES[0], 5_000, 200), (PHASES[1], 200, 50)],
    ids=["edges", "chance"],
)
def test_the_server_and_its_description_agree(
    phases: str, requests: int, understood: int, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("--seed") or 1
    with live_server() as url:
        asked = ask(url, tmp_path, seed, _CASES, phases)
        print(asked.report)
        assert asked.agrees, f"seed {seed}\n{asked.report}"
        counts = answered(url)
        assert not bugs(counts)
        # Some of it was understood, and led on, so it was no idle talk.
        assert counts.total() > requests
        assert counts[200] > understood
        if "stateful" in phases:
            assert min(asked.sequences) > 1
        assert httpx2.get(f"{url}/readyz?for=write", timeout=DEADLINE_S).status_code == 200
