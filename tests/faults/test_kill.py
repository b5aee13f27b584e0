"""kill -9 at any moment, under load: nothing acknowledged is lost, no dot is issued twice."""

from __future__ import annotations

import random
from pathlib import Path

from faults.load import check, loaded
from processes import cluster

SEED = 20261123


def test_nothing_acknowledged_is_lost(tmp_path: Path, at_length: bool) -> None:
    kills = 200 if at_length else 10
    print(f"seed {SEED}")
    moments = random.Random(SEED)
    with cluster(tmp_path, 2) as (victim, witness):
        with loaded(victim) as load:
            for _ in range(kills):
                load.until_writes(moments.randrange(1, 60))
                victim.kill()
                victim.start().until_ready()
        writes = check([victim, witness], [load])
        print(f"{kills} kills, {writes} acknowledged writes, none lost")
