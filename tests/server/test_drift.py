"""The server does what its OpenAPI document says: schemathesis asks it things it never thought of.

Every case comes from the document alone, whether it fits the schemas or (mostly) just fails to.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from liveserver import live_server

#: Of each operation, in each phase.
_CASES = 15
#: Not asked for: an object that nobody wrote is no 404 (`use_after_free`); a token or cursor that
#: was made up fits the schema, and is refused (`positive_data_acceptance`).
_UNCHECKED = "use_after_free,positive_data_acceptance"


@pytest.fixture
def url() -> Iterator[str]:
    with live_server() as url:
        yield url


def _tokens(url: str) -> dict[str, str]:
    """One of each kind."""
    written = httpx2.post(f"{url}/v1/buckets/shop/set/k", json={"op": "add", "values": [1, "a"]})
    read = httpx2.get(f"{url}/v1/buckets/shop/set/k").json()
    return {
        "session-token": written.headers["Crdtdb-Context"],
        "read-context": read["seen"],
        "change-cursor": httpx2.get(f"{url}/v1/changes").json()["cursor"],
    }


def test_the_server_and_its_description_agree(
    url: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("--seed") or 1
    here = Path(__file__).parent
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--seed", str(seed), "--max-examples", str(_CASES), "--no-color"),
            *("--exclude-checks", _UNCHECKED, "--request-timeout", "10", "--warnings", "off"),
            "--continue-on-failure",
        ],
        env={
            **os.environ,
            **_tokens(url),
            "PYTHONPATH": str(here),
            "SCHEMATHESIS_HOOKS": "fuzz_hooks",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    print(ran.stdout)
    assert ran.returncode == 0, f"seed {seed}\n{ran.stdout}\n{ran.stderr}"
    assert httpx2.get(f"{url}/readyz?for=write").status_code == 200
