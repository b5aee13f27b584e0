"""Sessions that hop between real replicas at random while links flap.

Every operation goes to a replica chosen by chance, with the session's token. A replica that has
not seen what the token covers says so (503 `behind`), which is no violation; the operation is then
tried at another. Links are cut and mended by the number of operations, never by the clock.

Each session has three objects that nobody else writes: counters `a` and `b`, incremented in turn,
and a register `r` that says how often it was set and what its writer had observed. So every value
is written once, and what sessions did is a history for the checkers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import httpx2

from checkers.atomicity import atomicity
from checkers.causality import causality
from checkers.order import Transaction, Value
from checkers.sessions import sessions
from checkers.violation import Violation
from processes import Replica, cluster

__all__ = ["Report", "hop", "judge"]

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
    #: What sessions did and were shown.
    history: list[Transaction]


def judge(history: Sequence[Transaction]) -> list[Violation]:
    """What sessions were shown although their guarantees exclude it."""
    return [*sessions(history), *causality(history), *atomicity(history)]


class _Session:
    """What one session has written."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: How often each of its objects was written.
        self.count = {"a": 0, "b": 0, "r": 0}

    @property
    def next_counter(self) -> str:
        """Which counter is incremented next."""
        return "a" if self.count["a"] == self.count["b"] else "b"

    def write(self, name: str) -> tuple[str, int]:
        """Another write of an object: which one it is, and the how many-th of it."""
        self.count[name] += 1
        return f"{name}{self.number}", self.count[name]


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
        self._history: list[Transaction] = []
        self._http = httpx2.AsyncClient(timeout=60)

    async def run(self) -> Report:
        """Let all sessions do their part."""
        async with self._http, asyncio.TaskGroup() as group:
            for number in range(_SESSIONS):
                group.create_task(self._session(_Session(number)))
        return Report(self._done, self._behind, self._cuts, self._history)

    async def _session(self, session: _Session) -> None:
        token: str | None = None
        snapshot: Mapping[str, Value] = {}
        while self._done < self._operations:
            self._done += 1
            if self._done % _FLAP_OPERATIONS == 0:
                await self._flap()
            choice = self._random.random()
            if choice < 0.4:
                name, count = session.write(session.next_counter)
                answer = await self._ask(token, f"counter/{name}", {"op": "increment"})
                self._note(session, writes={name: count})
                self._note(session, reads={name: answer.json()["value"]})
            elif choice < 0.6 and snapshot:
                name, count = session.write("r")
                value = [count, snapshot[f"a{self._random.randrange(_SESSIONS)}"]]
                answer = await self._ask(token, f"register/{name}", {"op": "set", "value": value})
                self._note(session, writes={name: tuple(value)})
            else:
                answer = await self._ask(token, None, {"reads": _READS})
                snapshot = _snapshot(answer.json()["reads"])
                self._note(session, reads=snapshot)
            token = answer.headers[_CONTEXT]

    def _note(self, session: _Session, **did: Mapping[str, Value]) -> None:
        self._history.append(Transaction(f"session {session.number}", **did))

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


def _snapshot(reads: list[dict[str, Any]]) -> Mapping[str, Value]:
    """What a snapshot shows of all sessions' objects; of those that nobody wrote, None."""
    values = {read["key"]: read["value"] for read in reads}
    return {
        key: tuple(value) if isinstance(value, list) else value or None
        for key, value in values.items()
    }


def hop(directory: Path, seed: int, operations: int, *, tokens: bool = True) -> Report:
    """Run sessions over fresh replicas in `directory`, and tell what they did."""
    with cluster(directory, _REPLICAS) as replicas:
        return asyncio.run(_Run(replicas, Random(seed), operations, tokens=tokens).run())
