"""kill -9 at any moment, under load: nothing acknowledged is lost, no dot is issued twice.

A lost write or a dot issued twice shows in the same place: the member it added is not there at
the end, here or at the other replica, which discards what it believes to know already.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import httpx2

from processes import Replica, cluster, equal

KILLS = 20


class Load:
    """Writers that note what was acknowledged, and what may or may not have been carried out."""

    def __init__(self, replica: Replica, writers: int) -> None:
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self._replica = replica
        self._lock = threading.Lock()
        self._number = 0
        self._stop = threading.Event()
        self._wrote = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._write) for _ in range(writers)]
        for thread in self._threads:
            thread.start()

    def _next(self) -> str:
        with self._lock:
            self._number += 1
            name = f"m{self._number}"
            self.sent.add(name)
            return name

    def _write(self) -> None:
        with httpx2.Client(base_url=self._replica.url, timeout=30) as http:
            while not self._stop.is_set():
                name = self._next()
                try:
                    answer = http.post(
                        "/v1/transactions",
                        json={
                            "updates": [
                                _update("set", "s", {"op": "add", "value": name}),
                                _update("counter", "c", {"op": "increment"}),
                            ]
                        },
                    )
                except httpx2.TransportError:
                    continue
                if answer.status_code == 200:
                    with self._lock:
                        self.acknowledged.add(name)
                    self._wrote.release()

    def until_writes(self, count: int) -> None:
        """Wait for so many more acknowledged writes."""
        for _ in range(count):
            assert self._wrote.acquire(timeout=60), "no write was acknowledged any more"

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _update(kind: str, key: str, operation: dict[str, object]) -> dict[str, object]:
    return {"bucket": "t", "type": kind, "key": key, **operation}


def _members(replica: Replica) -> set[str]:
    members: set[str] = set()
    query = {"limit": "1000"}
    while True:
        page = replica.http.get("/v1/buckets/t/set/s", params=query).json()
        members.update(page["value"])
        if "next" not in page:
            return members
        query = {"limit": "1000", "after": page["next"]}


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    seed = 20261123
    print(f"seed {seed}")
    moments = random.Random(seed)
    with cluster(tmp_path, 2) as (victim, witness):
        load = Load(victim, writers=4)
        try:
            for _ in range(KILLS):
                load.until_writes(moments.randrange(1, 60))
                victim.kill()
                victim.start().until_ready()
        finally:
            load.stop()
        equal([victim, witness])
        for replica in (victim, witness):
            members = _members(replica)
            assert load.acknowledged <= members, f"lost at {replica.name}"
            assert members <= load.sent, f"made up at {replica.name}"
            # The two updates of a transaction were one: both there, or neither.
            assert replica.value("counter/c") == len(members)
        print(f"{KILLS} kills, {len(load.acknowledged)} acknowledged writes, none lost")
