"""Bits flip anywhere in the files of a replica. It mends itself, or it says that it cannot start.

Whatever happens, no other replica believes what a flipped bit says, and nothing is lost that the
others hold: a replica that cannot be started is a lost disk, and recovers as one.
"""

from __future__ import annotations

import hashlib
import os
import random
import shlex
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


def break_meta_pages(replica: Replica) -> None:
    """Flip a bit in each page from which LMDB begins to read."""
    with (replica.data_dir / "data.mdb").open("r+b") as file:
        for at in (16, 4_096 + 16):
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 0x10]))


def follow(replica: Replica, said: str, way: str, backup: Path | None = None) -> None:
    """Type the commands that a refusal to start names, as they stand there."""
    replica.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    after = said[said.rindex(way) :].splitlines()[1:]
    end = next((i for i, line in enumerate(after) if not line.startswith("    ")), len(after))
    *before, last = (line.strip().replace("BACKUP", str(backup)) for line in after[:end])
    assert before
    for command in before:
        words = shlex.split(command)
        subprocess.run(words, check=True, timeout=60, env=os.environ | replica.environment)
    replica.kill()
    replica.start(shlex.split(last)).until_ready()


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
    told = len(replica.log.read_text())
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


@pytest.mark.parametrize("way", ["From its peers", "Or from a backup"])
def test_a_refusal_to_start_says_how_to_get_everything_back(tmp_path: Path, way: str) -> None:
    """Word for word, and twice: where it was moved to the first time is taken then."""
    with cluster(tmp_path, 2) as (victim, witness):
        victim.post("set/s", {"op": "add", "values": ["milk", "bread"]})
        equal([victim, witness])
        backup = tmp_path / "monday"
        words = [sys.executable, "-m", "crdtdb_server", "backup", str(backup), "--url", victim.url]
        subprocess.run(words, check=True, timeout=60)
        for number, moved in enumerate(["r0.damaged", "r0.damaged-2"]):
            witness.post("set/s", {"op": "add", "value": f"later {number}"})
            equal([victim, witness])
            reference, _ = witness.digest()
            victim.stop()
            break_meta_pages(victim)
            assert outcome(victim, reference) == "refuses to start, and says why"
            follow(victim, victim.log.read_text(), way, backup)
            equal([victim, witness])
            assert victim.digest()[0] == witness.digest()[0] == reference
            assert (tmp_path / moved / "data.mdb").exists(), "nothing of it is thrown away"
        assert set(victim.value("set/s")) == {"milk", "bread", "later 0", "later 1"}


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
            if victim.code == 1:
                follow(victim, victim.log.read_text(), "From its peers")
                equal([victim, witness])
            elif victim.code is not None:
                victim.kill()
                shutil.rmtree(victim.data_dir)
                victim.start().until_ready()
                equal([victim, witness])
            assert witness.digest()[0] == reference, "the others believe no flipped bit"
    for became, count in outcomes.most_common():
        print(f"{count:>3} × {became}")
    assert outcomes["serves, and shows what the others show"]
