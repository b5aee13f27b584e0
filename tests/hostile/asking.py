"""schemathesis asks a real replica what its OpenAPI document allows, and what it does not.

Examples, edge cases of each parameter, random requests, and sequences of requests that follow the
links from one answer to the next. The replica itself counts what it answered.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import httpx2

from processes import DEADLINE_S

__all__ = ["PHASES", "Asked", "answered", "ask", "ask_until", "bugs"]

#: Each parameter at its edges, one by one; then at random, and in sequences.
PHASES: Final = ("examples,coverage", "fuzzing,stateful")
#: Of each operation, in each phase of one run.
_EXAMPLES: Final = 30
_TESTS: Final = Path(__file__).parents[1]
#: Not asked for: an object that nobody wrote is no 404 (`use_after_free`); a token or cursor that
#: was made up fits the schema, and is refused (`positive_data_acceptance`).
_UNCHECKED: Final = "use_after_free,positive_data_acceptance"
#: Statuses above 499 that the contract knows.
_EXPECTED: Final = frozenset({503, 507})
_COUNT: Final = re.compile(
    r'^crdtdb_http_request_duration_seconds_count\{code="(\d+)",.*\} ([0-9.e+]+)$', re.MULTILINE
)


_SCENARIOS: Final = re.compile(r"Stateful .*?Scenarios: +(\d+)", re.DOTALL)
_LINKS: Final = re.compile(r"API Links: +(\d+) covered")


class Asked(NamedTuple):
    """What came of one run."""

    report: str
    agrees: bool

    @property
    def sequences(self) -> tuple[int, int]:
        """Sequences of requests, and how many of the document's links they followed."""
        scenarios, links = _SCENARIOS.search(self.report), _LINKS.search(self.report)
        return (int(scenarios[1]) if scenarios else 0, int(links[1]) if links else 0)


def ask(
    url: str, directory: Path, seed: int, examples: int, phases: str = ",".join(PHASES)
) -> Asked:
    """Let schemathesis ask, with so many examples for each operation in each phase."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--seed", str(seed), "--max-examples", str(examples), "--phases", phases),
            *("--exclude-checks", _UNCHECKED, "--request-timeout", "30", "--warnings", "off"),
            *("--continue-on-failure", "--no-color"),
        ],
        env={
            **os.environ,
            **_tokens(url),
            "PYTHONPATH": str(_TESTS / "server"),
            "SCHEMATHESIS_HOOKS": "fuzz_hooks",
        },
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return Asked(ran.stdout + ran.stderr, ran.returncode == 0)


def ask_until(url: str, directory: Path, seed: int, requests: int) -> Iterator[Asked]:
    """Run after run, each with another seed, until so many requests have been answered."""
    before = answered(url).total()
    while answered(url).total() - before < requests:
        yield ask(url, directory, seed, _EXAMPLES)
        seed += 1


def answered(url: str) -> Counter[int]:
    """How often a replica has answered with each status, since it started."""
    counts: Counter[int] = Counter()
    for code, count in _COUNT.findall(httpx2.get(f"{url}/metrics", timeout=DEADLINE_S).text):
        counts[int(code)] += int(float(count))
    return counts


def bugs(counts: Counter[int]) -> int:
    """Answers that the contract does not know."""
    return sum(count for code, count in counts.items() if code >= 500 and code not in _EXPECTED)


def _tokens(url: str) -> dict[str, str]:
    """One of each kind, that schemathesis cannot make up."""
    written = httpx2.post(
        f"{url}/v1/buckets/shop/set/k", json={"op": "add", "values": [1, "a"]}, timeout=DEADLINE_S
    )
    read = httpx2.get(f"{url}/v1/buckets/shop/set/k", timeout=DEADLINE_S).json()
    return {
        "session-token": written.headers["Crdtdb-Context"],
        "read-context": read["seen"],
        "change-cursor": httpx2.get(f"{url}/v1/changes", timeout=DEADLINE_S).json()["cursor"],
    }
