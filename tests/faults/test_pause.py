"""SIGSTOP: a replica that does not move and yet has not gone.

The kernel goes on to take connections and bytes for it, so others learn of it by their own
deadlines alone. They serve all the while; it goes on where it stood, as if nothing had been.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from faults.load import check, loaded
from processes import cluster


def test_the_others_go_on_and_so_does_it(tmp_path: Path, at_length: bool) -> None:
    with cluster(tmp_path, 3) as replicas:
        victim, *others = replicas
        with loaded(victim, writers=2) as paused:
            paused.until_writes(20)
            os.kill(victim.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                done = len(paused.acknowledged)
                with loaded(others[0], writers=2) as here, loaded(others[1], writers=2) as there:
                    for load in (here, there):
                        load.until_writes(100)
                    while at_length and time.monotonic() - began < 30:
                        here.until_writes(1)
                assert not here.refused, "a live replica refuses nobody because of another one"
                assert not there.refused
                assert len(paused.acknowledged) <= done + 2, "a stopped process answers nobody"
                paused_s = time.monotonic() - began
            finally:
                os.kill(victim.pid, signal.SIGCONT)
            paused.until_writes(20)
        assert not paused.refused
        writes = check(replicas, [paused, here, there])
        print(f"stopped for {paused_s:.1f} s; {writes} acknowledged writes, none lost or refused")
