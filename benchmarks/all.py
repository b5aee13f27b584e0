"""Every benchmark, one after the other, and a page that shows what they found.

    python benchmarks/all.py [--quick] [--only NAME]... [--rounds N] [--seed N] [--out DIRECTORY]

Each writes its JSON to the directory (`build/bench`), with the machine and the commit; the page is
its `index.html`, one file with the plots in it. The quick form takes less than five minutes and
shows that everything runs: its figures are rough. Exit code 1 if a target is missed or a benchmark
could not be carried out.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from report import write_report

__all__ = ["BENCHMARKS", "Benchmark", "arguments_of"]

_HERE: Final = Path(__file__).parent


class Benchmark(NamedTuple):
    """A program of this directory, and what tells it how much to do."""

    name: str
    #: Further arguments of the whole form …
    whole: tuple[str, ...] = ()
    #: … and of the quick one.
    quick: tuple[str, ...] = ("--quick",)
    takes_rounds: bool = True


#: Those that say most come first.
BENCHMARKS: Final = (
    Benchmark("connections"),
    Benchmark("transactions"),
    Benchmark("sets"),
    Benchmark("propagation"),
    Benchmark("heal"),
    Benchmark("partition", (), ("total-isolation", "--quick"), takes_rounds=False),
    Benchmark("bootstrap", (), ("--quick", "--records", "20000")),
    Benchmark("backlog"),
    Benchmark("opening"),
    Benchmark("footprint", takes_rounds=False),
    Benchmark(
        "replication",
        (),
        ("--quick", "--only", "catch-up", "--only", "counter", "--only", "idle"),
        takes_rounds=False,
    ),
    Benchmark("counters"),
    Benchmark("text", (), ("--edits", "5000", "--rounds", "3")),
    Benchmark("append_first", (), ("--quick", "--records", "20000")),
    Benchmark("feed", takes_rounds=False),
    Benchmark("overload", quick=("--quick", "--rounds", "1")),
    Benchmark("bombs", takes_rounds=False),
)


def arguments_of(benchmark: Benchmark, asked: argparse.Namespace) -> list[str]:
    """What one benchmark is told."""
    arguments = list(benchmark.quick if asked.quick else benchmark.whole)
    arguments += ["--seed", str(asked.seed), "--json", str(asked.out / f"{benchmark.name}.json")]
    if asked.rounds is not None and benchmark.takes_rounds:
        arguments += ["--rounds", str(asked.rounds)]
    return arguments


def main() -> int:
    """Measure everything, show it, judge it."""
    asked = _arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in BENCHMARKS if not asked.only or one.name in asked.only]
    failed = []
    for benchmark in chosen:
        (asked.out / f"{benchmark.name}.json").unlink(missing_ok=True)
        print(f"== {benchmark.name}", flush=True)
        began = monotonic()
        command = [sys.executable, str(_HERE / f"{benchmark.name}.py")]
        done = subprocess.run([*command, *arguments_of(benchmark, asked)], check=False)
        print(f"== {benchmark.name} took {monotonic() - began:.0f} s\n", flush=True)
        if done.returncode != 0:
            failed.append(benchmark.name)
    files = [asked.out / f"{benchmark.name}.json" for benchmark in chosen]
    page = write_report([file for file in files if file.exists()], asked.out / "index.html")
    print(f"{page}: the report")
    print("missed or failed: " + ", ".join(failed) if failed else "every target is kept")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Every benchmark, and a report page.")
    parser.add_argument("--quick", action="store_true", help="in less than five minutes, rough")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument(
        "--only", action="append", choices=names, help="this one (may be given more than once)"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each figure")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), metavar="DIRECTORY", help="for the results"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
