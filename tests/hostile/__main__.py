"""`python tests/hostile [--requests N] [--frames N] [--seed N]`: what a server must bear.

Requests made from the OpenAPI document by schemathesis, single ones and sequences, to a real
process; and frames that were valid once, to a replica's machine. Ends with 1 if one answer was a
5xx that the contract does not know, if an answer was not as described, or if a frame hurt.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crdtdb_server.ports import free_ports
from hostile.asking import answered, ask_until, bugs
from hostile.fuzzing import fuzz
from processes import Replica

_parser = argparse.ArgumentParser(description=__doc__)
_parser.add_argument("--requests", type=int, default=10_000)
_parser.add_argument("--frames", type=int, default=10_000)
_parser.add_argument("--seed", type=int, default=1)
_given = _parser.parse_args()

_began = perf_counter()
_fuzzed = fuzz(_given.frames, _given.seed)
_reasons = ", ".join(f"{count:,} {reason}" for reason, count in _fuzzed.refused.most_common())
print(
    f"seed {_given.seed}: {_fuzzed.frames:,} frames; {_fuzzed.refused.total():,} refused whole "
    f"({_reasons}), {_fuzzed.taken:,} taken in; {perf_counter() - _began:.0f} s",
    flush=True,
)

_began = perf_counter()
_agrees = True
_sequences = _links = 0
with tempfile.TemporaryDirectory() as _directory:
    _port = free_ports(1)[0]
    with Replica("hostile", _port, [], Path(_directory)) as _replica:
        _replica.until_ready()
        for _asked in ask_until(_replica.url, Path(_directory), _given.seed, _given.requests):
            _sequences += _asked.sequences[0]
            _links = max(_links, _asked.sequences[1])
            if not _asked.agrees:
                _agrees = False
                print(_asked.report)
        _counts = answered(_replica.url)
_bugs = bugs(_counts)
_statuses = ", ".join(f"{count:,} × {code}" for code, count in sorted(_counts.items()))
print(
    f"seed {_given.seed}: {_counts.total():,} requests ({_statuses}), {_sequences} sequences over "
    f"{_links} links; {_bugs} × 5xx; {perf_counter() - _began:.0f} s"
)
sys.exit(bool(_bugs) or not _agrees)
