"""Counts that no machine changes, compared with the accepted ones: bytes, records, store calls.

    python benchmarks/gate.py [--accept]

The accepted counts are in `accepted.json`; the tests hold every count to them exactly, so that what
an element costs never changes without somebody saying so. Who means a change runs this with
`--accept`, looks at the difference of that file, and commits it together with its reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from catch_up import catch_up, counter, idle_digest
from figures import Figure
from footprint import SEED, WORKLOADS, footprint

__all__ = ["ACCEPTED", "GROUPS", "accepted", "changes", "counts"]

ACCEPTED: Final = Path(__file__).with_name("accepted.json")
#: What replication sends, in stores of so many records.
_STORED: Final = (1_000, 10_000)
_INCREMENTS: Final = 10_000
_REPLICATION: Final = "replication"
#: Counts that are measured together: a type's, and those of replication.
GROUPS: Final = (*WORKLOADS, _REPLICATION)

#: Name of a count → the count.
_Counts: TypeAlias = dict[str, float]


def counts(group: str) -> _Counts:
    """Count anew."""
    if group == _REPLICATION:
        return {
            f"{figure.name}: {name}": value
            for figure in _replication()
            for one in figure.rounds
            for name, value in one.measured.items()
        }
    return dict(footprint(group)._asdict())


def _replication() -> Iterator[Figure]:
    yield from catch_up(_STORED, SEED)
    yield counter(_INCREMENTS, SEED)
    yield from idle_digest(_STORED, SEED)


def accepted() -> dict[str, _Counts]:
    """What was accepted last, by group."""
    document: dict[str, _Counts] = json.loads(ACCEPTED.read_text())
    return document


def changes(group: str, known: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Every count that is not as accepted, in words."""
    return [
        f"{group}, {name}: {found.get(name, 'gone')} instead of {known.get(name, 'nothing')}"
        for name in dict.fromkeys((*known, *found))
        if known.get(name) != found.get(name)
    ]


def main() -> int:
    """Compare, or accept."""
    parser = argparse.ArgumentParser(description="Compare counts with the accepted ones.")
    parser.add_argument("--accept", action="store_true", help="take what is counted now")
    arguments = parser.parse_args()
    found = {group: counts(group) for group in GROUPS}
    known = accepted() if ACCEPTED.exists() else {}
    for group in dict.fromkeys((*known, *found)):
        for change in changes(group, known.get(group, {}), found.get(group, {})):
            print(change)
    if arguments.accept:
        ACCEPTED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    elif known != found:
        print("If that is meant: python benchmarks/gate.py --accept", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
