"""A benchmark as a command: the same options, the same heading, the same file of results.

Data lies where `TMPDIR` says: on a disk, or nothing that is durable means much.
"""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from disk import Disk
from figures import Figure
from machine import facts
from plan import Plan

__all__ = ["Measure", "run", "tell"]

#: Gives every figure as soon as there is one: of a plan, with a directory on a disk.
Measure: TypeAlias = Callable[[Plan, Path, Disk], Iterator[Figure]]


def run(description: str, measure: Measure, arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge. Exit code: 1 if a target is missed."""
    asked = _parser(description).parse_args(arguments)
    plan = Plan.of(asked.seed, rounds=asked.rounds, quick=asked.quick)
    document: dict[str, object] = {"about": description, **facts(), **plan._asdict()}

    def measured() -> Iterator[Figure]:
        with TemporaryDirectory(prefix="crdtdb-bench-") as name:
            directory = Path(name)
            disk = Disk(directory, plan.patience_s)
            document["disk_before_ms"] = _probe(disk)
            yield from measure(plan, directory, disk)
            document["disk_after_ms"] = _probe(disk)

    return tell(document, measured(), asked.json)


def tell(document: dict[str, object], figures: Iterable[Figure], file: Path | None) -> int:
    """Print what is known of a run, and each figure as soon as there is one; write it all; judge.

    Exit code: 1 if a target is missed.
    """
    for name, fact in document.items():
        print(f"{name}: {fact}", flush=True)
    told: list[Figure] = []
    for figure in figures:
        print(*figure.lines(), sep="\n    ", flush=True)
        told.append(figure)
    if file is not None:
        document["figures"] = [figure.as_dict() for figure in told]
        text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
        file.write_text(text + "\n")
    missed = [figure.name for figure in told if not figure.holds]
    print("\nmissed: " + "; ".join(missed) if missed else "\nevery target is kept")
    return 1 if missed else 0


def _probe(disk: Disk) -> float:
    took_ms = disk.probe_ms()
    print(f"disk: a durable append of 4 KiB takes {took_ms:.3f} ms\n", flush=True)
    return took_ms


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few short rounds, rough figures")
    parser.add_argument("--rounds", type=_positive, help="rounds of each figure (7; quick: 3)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw rounds there")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
