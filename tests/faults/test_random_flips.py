"""Bits flip anywhere in the files of a replica. It mends itself, or it says that it cannot start.

Whatever happens, no other replica believes what a flipped bit says, and nothing is lost that the
others hold: a replica that cannot be started is a lost disk, and recovers as one.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from processes import DEADLINE_S, Replica, cluster, equal

SEED = 20261123
FILES = ("data.mdb", "log.0", "log.1")


def flip(replica: Replica, luck: random.Random) -> None:
    """Flip a few bits of a stopped replica."""
    files = [path for name in FILES if (path := replica.data_dir / name).stat().st_size]
    for _ in range(luck.choice([1, 8, 64])):
        with luck.choice(files).open("r+b") as file:
            at = luck.randrange(file.seek(0, 2))
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << luck.randrange(8)]))


def contents(replica: Replica) -> dict[str, str]:
    return {
        name: hashlib.sha256((replica.data_dir / name).read_bytes()).hexdigest() for name in FILES
    }


def is_whole(replica: Replica, wanted: str) -> bool:
    """Does it serve what it should, and find no damage in any row?"""
    command = [sys.executable, "-m", "crdtdb_server", "verify", "--url", replica.url]
    try:
        return (
            replica.is_ready()
            and replica.digest()[0] == wanted
            and subprocess.run(command, capture_output=True, timeout=60).returncode == 0
        )
    except (httpx2.TransportError, KeyError):  # it has ended meanwhile, or a damaged row is read
        return False


def outcome(replica: Replica, wanted: str) -> str:
    """What becomes of a replica that was started with flipped bits."""
    before = contents(replica)
    told = replica.log.stat().st_size
    replica.start()
    end = time.monotonic() + DEADLINE_S
    while replica.code is None:
        assert time.monotonic() < end, f"neither mended nor ended: {replica.log.read_text()[told:]}"
        if is_whole(replica, wanted):
            return "serves, and shows what the others show"
        time.sleep(0.05)
    if replica.code == 1:
        said = replica.log.read_text()[told:]
        assert "Traceback" not in said, said
        assert contents(replica) == before, "what cannot be used is left as it is"
        return "refuses to start, and says why"
    return f"ended by signal {-replica.code}"


def test_bits_flip_anywhere(tmp_path: Path, at_length: bool) -> None:
    if not at_length:
        pytest.skip("the long form only: make faults")
    print(f"seed {SEED}")
    luck = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    with cluster(tmp_path, 2) as (victim, witness):
        for number in range(30):
            updates: list[dict[str, object]] = [
                {"bucket": "t", "type": "set", "key": "s", "op": "add", "value": f"{number}-{i}"}
                for i in range(300)
            ]
            updates += [
                {"bucket": "t", "type": "register", "key": f"{number}-{i}", "op": "set", "value": i}
                for i in range(300)
            ]
            answer = victim.http.post("/v1/transactions", json={"updates": updates})
            assert answer.status_code == 200, answer.text
            equal([victim, witness])
            reference, _ = witness.digest()
            victim.stop()
            flip(victim, luck)
            became = outcome(victim, reference)
            outcomes[became] += 1
            print(f"{number:>3}: {became}", flush=True)
            if victim.code is not None:
                victim.kill()
                shutil.rmtree(victim.data_dir)
                victim.start().until_ready()
                equal([victim, witness])
            assert witness.digest()[0] == reference, "the others believe no flipped bit"
    for became, count in outcomes.most_common():
        print(f"{count:>3} × {became}")
    assert outcomes["serves, and shows what the others show"]
