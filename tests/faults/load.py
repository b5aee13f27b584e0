"""Writers that note what was acknowledged, what was refused, and what may have been carried out.

A lost write, half a transaction or a dot issued twice all show in the same place: in the members of
one set, here or at another replica, which discards what it believes to know already.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import httpx2

from processes import DEADLINE_S, Replica, equal, until

__all__ = ["Load", "check", "loaded", "members_of"]


#: No two writes of a test are the same.
_numbers = count()


class Load:
    """So many clients of one replica, each writing without a pause."""

    def __init__(self, replica: Replica, writers: int, *, timeout_s: float = 60) -> None:
        self.acknowledged: set[str] = set()
        #: What was answered with an error: nothing of it may be there.
        self.refused: dict[str, int] = {}
        self.sent: set[str] = set()
        self._replica = replica
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wrote = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._write) for _ in range(writers)]
        for thread in self._threads:
            thread.start()

    def _next(self) -> str:
        with self._lock:
            name = f"{self._replica.name}-{next(_numbers)}"
            self.sent.add(name)
            return name

    def _write(self) -> None:
        with httpx2.Client(base_url=self._replica.url, timeout=self._timeout_s) as http:
            while not self._stop.is_set():
                self._write_once(http)

    def _write_once(self, http: httpx2.Client) -> None:
        name = self._next()
        add = {"bucket": "t", "type": "set", "key": "s", "op": "add", "value": name}
        step = {"bucket": "t", "type": "counter", "key": "c", "op": "increment"}
        try:
            answer = http.post("/v1/transactions", json={"updates": [add, step]})
        except httpx2.TransportError:
            return
        with self._lock:
            if answer.status_code == 200:
                self.acknowledged.add(name)
                self._wrote.release()
            else:
                self.refused[name] = answer.status_code

    def until_writes(self, count: int) -> None:
        """Wait for so many more acknowledged writes."""
        for _ in range(count):
            assert self._wrote.acquire(timeout=DEADLINE_S), "no write was acknowledged any more"

    def until_refused(self, count: int) -> None:
        """Wait until so many writes have been refused, all in all."""
        until(f"{count} writes refused", lambda: len(self.refused) >= count)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def loaded(replica: Replica, *, writers: int = 4, timeout_s: float = 60) -> Iterator[Load]:
    """A replica under load, for as long as the block lasts."""
    load = Load(replica, writers, timeout_s=timeout_s)
    try:
        yield load
    finally:
        load.stop()


def check(replicas: Sequence[Replica], loads: Sequence[Load]) -> int:
    """Once the replicas are equal: does each show what was acknowledged, and nothing refused?

    How many writes it was.
    """
    equal(replicas)
    acknowledged = set().union(*(load.acknowledged for load in loads))
    refused = set().union(*(load.refused for load in loads))
    sent = set().union(*(load.sent for load in loads))
    for replica in replicas:
        members = members_of(replica)
        assert acknowledged <= members, f"lost at {replica.name}: {acknowledged - members}"
        assert not refused & members, f"refused and yet at {replica.name}: {refused & members}"
        assert members <= sent, f"made up at {replica.name}: {members - sent}"
        # The two updates of a transaction were one: both there, or neither.
        assert replica.value("counter/c") == len(members)
    return len(acknowledged)


def members_of(replica: Replica) -> set[str]:
    """The writes that it shows."""
    members: set[str] = set()
    query = {"limit": "1000"}
    while True:
        page = replica.http.get("/v1/buckets/t/set/s", params=query).json()
        members.update(page["value"])
        if "next" not in page:
            return members
        query = {"limit": "1000", "after": page["next"]}
