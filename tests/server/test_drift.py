"""The server does what its OpenAPI document says: schemathesis asks it things it never thought of.

Every case comes from the document alone, whether it fits the schemas or (mostly) just fails to. The
short form of `make hostile`.
"""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from hostile.asking import answered, ask, bugs
from liveserver import live_server

#: Of each operation, in each phase.
_CASES = 8


def test_the_server_and_its_description_agree(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seed = pytestconfig.getoption("--seed") or 1
    with live_server() as url:
        asked = ask(url, tmp_path, seed, _CASES)
        print(asked.report)
        assert asked.agrees, f"seed {seed}\n{asked.report}"
        counts = answered(url)
        assert not bugs(counts)
        assert counts.total() > 1_000
        # Some of it was understood, and led on, so it was no idle talk.
        assert counts[200] > 300
        assert min(asked.sequences) > 1
        assert httpx2.get(f"{url}/readyz?for=write").status_code == 200
