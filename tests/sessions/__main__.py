"""`python tests/sessions [--operations N] [--seed N]`: hop, and say what was seen."""

import argparse
import sys
import tempfile
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sessions.hopping import hop, judge

_parser = argparse.ArgumentParser(description=__doc__)
_parser.add_argument("--operations", type=int, default=100_000)
_parser.add_argument("--seed", type=int, default=1)
_given = _parser.parse_args()

with tempfile.TemporaryDirectory() as _directory:
    _began = perf_counter()
    _report = hop(Path(_directory), _given.seed, _given.operations)
_found = judge(_report.history)
for _violation in _found[:10]:
    print(_violation)
print(
    f"seed {_given.seed}: {_report.operations:,} operations by sessions that hop, "
    f"{_report.cuts:,} cuts, {_report.behind:,} answers `behind`, {len(_found)} violations, "
    f"{perf_counter() - _began:.0f} s"
)
sys.exit(bool(_found))
