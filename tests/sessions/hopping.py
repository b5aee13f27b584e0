"""Sessions that hop between real replicas at random while links flap.

Every operation goes to a replica chosen by chance, with the session's token. A replica that has
not seen what the token covers says so (503 `behind`), which is no violation; the operation is then
tried at another. Links are cut and mended by the number of operations, never by the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import httpx2

from processes import Replica, cluster
from sessions.guarantees import Seen, Session

__all__ = ["Report", "hop"]

_REPLICAS: Final = 3
_SESSIONS: Final = 8
#: After so many operations, links are cut otherwise.
_FLAP_OPERATIONS: Final = 100
_CONTEXT: Final = "Crdtdb-Context"


class Report(NamedTuple):
    """What a run was."""

    operations: int
    #: Requests that were answered with `behind`, and repeated elsewhere.
    behind: int
    cuts: int


class _Run:
    def __init__(
        self, replicas: Sequence[Replica], random: Random, operations: int, *, tokens: bool
    ) -> None:
        self._replicas = replicas
        self._random = random
        self._operations = operations
        self._tokens = tokens
        self._done = self._behind = self._cuts = 0
        self._cut: tuple[Replica, Replica] | None = None
        self._http = httpx2.AsyncClient(timeout=60)

    async def run(self) -> Report:
        """Let all sessions do their part. Raises Violation."""
        async with self._http, asyncio.TaskGroup() as group:
            for number in range(_SESSIONS):
                group.create_task(self._session(Session(number, _SESSIONS)))
        return Report(self._done, self._behind, self._cuts)

    async def _session(self, session: Session) -> None:
        token: str | None = None
        snapshot: list[Seen] = []
        while self._done < self._operations:
            self._done += 1
            if self._done % _FLAP_OPERATIONS == 0:
                await self._flap()
            choice = self._random.random()
            if choice < 0.4:
                path = f"counter/{session.next_counter}{session.number}"
                answer = await self._ask(token, path, {"op": "increment"})
                session.incremented(answer.json()["value"])
            elif choice < 0.6 and snapshot:
                whose = self._random.randrange(_SESSIONS)
                r = (whose, snapshot[whose].a)
                path = f"register/r{session.number}"
                answer = await self._ask(token, path, {"op": "set", "value": list(r)})
                session.noted(r)
            else:
                answer = await self._ask(token, None, {"reads": _READS})
                snapshot = _snapshot(answer.json()["reads"])
                session.check(snapshot)
            token = answer.headers[_CONTEXT]

    async def _ask(self, token: str | None, path: str | None, body: Any) -> httpx2.Response:
        """Ask replicas chosen by chance until one has seen enough."""
        at = "/v1/transactions" if path is None else f"/v1/buckets/t/{path}"
        headers = {"Prefer": "wait=0"}
        if token is not None and self._tokens:
            headers[_CONTEXT] = token
        while True:
            replica = self._random.choice(self._replicas)
            answer = await self._http.post(replica.url + at, json=body, headers=headers)
            if answer.status_code == 200:
                return answer
            assert answer.status_code == 503, answer.text
            assert answer.json()["code"] == "behind", answer.text
            self._behind += 1

    async def _flap(self) -> None:
        """Mend the link that is cut, and cut another one, one way or both."""
        if self._cut is not None:
            mended, other = self._cut
            await self._http.delete(f"{mended.url}/v1/faults/links/{other.name}")
        one, other = self._random.sample(self._replicas, 2)
        self._cut = one, other
        self._cuts += 1
        fault = {"drop": True, "direction": self._random.choice(["in", "out", "both"])}
        answer = await self._http.put(f"{one.url}/v1/faults/links/{other.name}", json=fault)
        assert answer.status_code == 200, answer.text


_READS: Final = [
    {"bucket": "t", "type": kind, "key": f"{key}{number}"}
    for number in range(_SESSIONS)
    for kind, key in (("counter", "a"), ("counter", "b"), ("register", "r"))
]


def _snapshot(reads: list[dict[str, Any]]) -> list[Seen]:
    values = [read["value"] for read in reads]
    return [
        Seen(a, b, None if r is None else (r[0], r[1]))
        for a, b, r in zip(values[::3], values[1::3], values[2::3], strict=True)
    ]


def hop(directory: Path, seed: int, operations: int, *, tokens: bool = True) -> Report:
    """Run sessions over fresh replicas in `directory`. Raises an ExceptionGroup of Violations."""
    with cluster(directory, _REPLICAS) as replicas:
        return asyncio.run(_Run(replicas, Random(seed), operations, tokens=tokens).run())
