"""Wall clocks that are wrong, and that jump while a replica runs, by libfaketime.

A clock decides only which of two *concurrent* writes to a register is read. Nothing is lost or
refused because of it, no causally later write loses, no other replica's clock is moved by more than
it may be off; and who is wrong says so.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from crdtdb.limits import LIMITS
from crdtdb_server.ports import free_ports
from faults.load import Load, check, loaded
from processes import Replica, equal, running, until

HOUR_S = 3_600


class Clock:
    """The wall clock of a process, which can be moved while it runs."""

    def __init__(self, file: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("libfaketime is not installed: apt-get install libfaketime")
        self._file = file
        self.move(0)
        self.environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, off_by_s: int) -> None:
        """Let it be so far off from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{off_by_s:+}")
        new.replace(self._file)


def put(replica: Replica, value: str) -> None:
    answer = replica.post("register/r", {"op": "set", "value": value})
    assert answer.status_code == 200, answer.text


def off_by_ms(replica: Replica) -> int:
    """How far from now the register was written, by what its writer took for the time."""
    query = {"explain": "true"}
    shown = replica.http.get("/v1/buckets/t/register/r", params=query).json()
    (entry,) = shown["explain"]["records"][0]["entries"]
    return int(entry["at_ms"]) - time.time_ns() // 1_000_000


def says_so(replica: Replica, *, far: bool = True) -> bool:
    """Does it say whether most others disagree with its clock?"""
    return ("clock_off_by_ms" in replica.http.get("/readyz").json()) is far


def test_clocks_jump(tmp_path: Path, at_length: bool) -> None:
    clock = Clock(tmp_path / "clock")
    ports = free_ports(3)
    eu, us, wrong = replicas = [
        Replica(name, port, [p for p in ports if p != port], tmp_path)
        for name, port in zip(("eu-1", "us-1", "ap-1"), ports, strict=True)
    ]
    wrong.environment |= clock.environment
    jumps_s = [HOUR_S, -HOUR_S, 30 * HOUR_S, -30 * HOUR_S, 4, -4] * 3 if at_length else [HOUR_S]
    loads: list[Load] = []
    with running(replicas):
        for number, off_by_s in enumerate(jumps_s):
            with (
                loaded(eu, writers=1) as here,
                loaded(us, writers=1) as there,
                loaded(wrong, writers=1) as with_it,
            ):
                loads += (here, there, with_it)
                clock.move(off_by_s)
                far = abs(off_by_s) * 1_000 > LIMITS.max_drift_ms
                until("it says so", partial(says_so, wrong, far=far))
                assert not says_so(eu), "one of two others is not most of them"
                put(wrong, f"wrong {number}")
                for load in (here, there, with_it):
                    load.until_writes(20)
            equal(replicas)
            # Who has seen a write replaces it, whatever the clocks say.
            put(eu, f"right {number}")
            equal(replicas)
            assert [replica.value("register/r") for replica in replicas] == [f"right {number}"] * 3
            # An hour would be plain to see; a busy machine answers some seconds late.
            assert abs(off_by_ms(eu)) <= LIMITS.max_drift_ms + 60_000, "no clock was carried along"
            # Time does not go back for the one that was wrong, over a restart neither.
            clock.move(0)
            if at_length:
                wrong.kill()
                wrong.start().until_ready()
            put(wrong, f"back {number}")
            equal(replicas)
            assert [replica.value("register/r") for replica in replicas] == [f"back {number}"] * 3
        assert eu.http.get("/v1/cluster").json()["refusals"]["clock-ahead"]
        assert not any(load.refused for load in loads), "no clock makes a replica refuse"
        writes = check(replicas, loads)
    print(f"{len(jumps_s)} jumps of a clock, {writes} acknowledged writes, none refused or lost")
