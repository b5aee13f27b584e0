"""A cluster in steady use: what grows although the data does not.

    python benchmarks/soak.py [--minutes N] [--seed N] [--json FILE]

Three real replicas, and a client of each that goes on writing and reading objects of every type: a
fixed number of them, of about fixed size, whose members, fields, elements and letters come and go
and some of which expire. Each minute one replica is cut off for a quarter of a minute. Whatever
grows then is history that should have been let go, or is leaked.

From the samples of the second half of the run, for each replica:

- memory that the system cannot take back, MiB an hour (a line through the samples);
- open files and sockets, at the end against the middle;
- the data directory, at the end against the middle.

The replicas remember less than usual (`variants.py`): what is kept for hours or a day on purpose
would alone grow for as long.

At the end all digests must be equal. Exit code 1 if they are not, an operation was answered with
anything but success, or a target is missed. Short runs still warm up: an hour says more.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from statistics import linear_regression, mean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final, NamedTuple

import command
import variants
from cluster import Replica, replicas
from crdtdb.errors import InvalidOperation
from crdtdb_client import AsyncClient
from figures import Figure, Round, at_most
from links import FAULTS
from machine import BOTH, facts, private_bytes

__all__ = ["Sample", "measure", "told"]

_NAMES: Final = ("one", "two", "three")
_BUCKET: Final = "soak"
#: Objects of each type, and what each has at most, about.
_OBJECTS: Final = 20
_MEMBERS: Final = 50
_LETTERS: Final = 400
_EXPIRES_MS: Final = 5_000
#: Begin an operation so often, at each replica.
_EVERY_S: Final = 0.01
_SAMPLE_EVERY_S: Final = 5.0
_TOLD_EVERY_S: Final = 60.0
_CUT_EVERY_S: Final = 60.0
_CUT_FOR_S: Final = 15.0
_LEVEL_S: Final = 120.0
_LEAVES: Final[Sequence[dict[str, Any]]] = (
    {"type": "counter", "op": "increment"},
    {"type": "opcounter", "op": "increment"},
    {"type": "register", "op": "set", "value": "new"},
    {"type": "set", "op": "add", "value": "member"},
)
_MIB: Final = 2**20
_HOUR_S: Final = 3_600.0

_MEMORY: Final = at_most(8)
_FILES: Final = at_most(1.1)
_DIRECTORY: Final = at_most(1.25)


class Sample(NamedTuple):
    """One replica at one moment."""

    at_s: float
    memory_bytes: int
    files: int
    directory_bytes: int


def main() -> int:
    """Run, print, judge."""
    arguments = _arguments()
    document = {**facts(), "seed": arguments.seed, "minutes": arguments.minutes}

    def figures() -> Iterator[Figure]:
        with TemporaryDirectory(prefix="crdtdb-bench-") as directory:
            seconds = 60 * arguments.minutes
            yield from asyncio.run(measure(seconds, arguments.seed, Path(directory)))

    return command.tell(document, figures(), arguments.json)


async def measure(seconds: float, seed: int, directory: Path) -> list[Figure]:
    """Use a cluster for so long. Raises RuntimeError if its replicas are not equal in the end."""
    paths = [directory / name for name in _NAMES]
    program = variants.program("short-memory")
    with replicas(paths, BOTH, program=program, options=FAULTS) as cluster:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(AsyncClient(f"http://127.0.0.1:{replica.port}"))
                for replica in cluster
            ]
            ended = asyncio.Event()
            users = [
                asyncio.create_task(_User(client, Random(f"{seed} {name}")).work(ended))
                for client, name in zip(clients, _NAMES, strict=True)
            ]
            cutting = asyncio.create_task(_cut(clients, Random(f"{seed} cuts"), ended))
            samples = await _watch(seconds, cluster, paths)
            ended.set()
            done = await asyncio.gather(*users)
            await cutting
            await _level(clients)
    print(f"{sum(done):,} steps of users", flush=True)
    return told(samples)


# -- the load -------------------------------------------------------------------------------------


class _User:
    """The client of one replica, which takes one step after the other."""

    def __init__(self, client: AsyncClient, random: Random) -> None:
        self._client = client
        self._random = random
        self._steps: Sequence[Callable[[], Awaitable[object]]] = (
            *(self._change_values, self._reset, self._change_fields, self._change_fields),
            *(self._change_members, self._change_members, self._change_elements),
            *(self._edit, self._write_for_a_while, self._write_together, self._read),
        )

    async def work(self, ended: asyncio.Event) -> int:
        """Go on until told to stop; how many steps that were."""
        steps = 0
        while not ended.is_set():
            began = perf_counter()
            await self._random.choice(self._steps)()
            steps += 1
            await asyncio.sleep(max(0.0, _EVERY_S - (perf_counter() - began)))
        return steps

    async def _change_values(self) -> None:
        client, key, value = self._client, self._key(), self._random.randrange(1_000)
        await client.counter(_BUCKET, key).increment(1 + value)
        await client.opcounter(_BUCKET, key).increment(1 + value)
        await client.register(_BUCKET, key).set(f"{value}")
        await client.mvregister(_BUCKET, key).set(value)
        await client.max(_BUCKET, key).set(value)
        await client.hll(_BUCKET, key).add(value)
        flag = client.dwflag(_BUCKET, key)
        await (flag.enable() if value % 2 else flag.disable())

    async def _reset(self) -> None:
        key = self._key()
        await self._client.counter(_BUCKET, key).reset()
        await self._client.opcounter(_BUCKET, key).reset()
        await self._client.register(_BUCKET, key).delete()

    async def _change_members(self) -> None:
        client, key, member = self._client, self._key(), self._member()
        for members in (client.set(_BUCKET, key), client.rwset(_BUCKET, key)):
            await (members.add(member) if self._tossed() else members.remove(member))
        scores = client.zset(_BUCKET, key)
        await (scores.increment(member) if self._tossed() else scores.remove(member))

    async def _change_fields(self) -> None:
        fields, field = self._client.map(_BUCKET, self._key()), f"{self._member()}"
        if self._tossed():
            leaf = self._random.choice(_LEAVES)
            await fields.update([field, str(leaf["type"])], leaf)
        else:
            await fields.remove([field])

    async def _change_elements(self) -> None:
        elements = self._client.list(_BUCKET, self._key())
        size = len((await elements.get()).value)
        if size > _MEMBERS // 2:
            change = elements.remove_at(self._random.randrange(size // 2), 5)
        else:
            change = elements.insert(self._random.randrange(size + 1), self._member())
        with suppress(InvalidOperation):  # others have made it shorter meanwhile
            await change

    async def _edit(self) -> None:
        text = self._client.text(_BUCKET, self._key())
        size = len((await text.get()).value)
        if size > _LETTERS:
            change = text.remove(self._random.randrange(size // 2), size // 4)
        else:
            change = text.insert(self._random.randrange(size + 1), "some letters ")
        with suppress(InvalidOperation):  # likewise
            await change

    async def _write_for_a_while(self) -> None:
        register = self._client.register(_BUCKET, f"passing-{self._random.randrange(1_000)}")
        await register.set(self._member())
        await register.expire(in_ms=_EXPIRES_MS)

    async def _write_together(self) -> None:
        async with self._client.transaction() as transaction:
            for _ in range(20):
                register = transaction.register(_BUCKET, f"many-{self._random.randrange(1_000)}")
                register.set(self._random.random())

    async def _read(self) -> None:
        client, key = self._client, self._key()
        await client.map(_BUCKET, key).get()
        await client.zset(_BUCKET, key).get()
        await client.set(_BUCKET, key).contains(self._member())

    def _key(self) -> str:
        return f"{self._random.randrange(_OBJECTS)}"

    def _member(self) -> int:
        return self._random.randrange(_MEMBERS)

    def _tossed(self) -> bool:
        return self._random.random() < 0.5


async def _cut(clients: Sequence[AsyncClient], random: Random, ended: asyncio.Event) -> None:
    """Cut one replica off, now and then."""
    while not await _over(ended, _CUT_EVERY_S - _CUT_FOR_S):
        alone = random.randrange(len(_NAMES))
        others = [name for name in _NAMES if name != _NAMES[alone]]
        for other in others:
            await clients[alone].put_fault(other, drop=True)
        await _over(ended, _CUT_FOR_S)
        for other in others:
            await clients[alone].mend(other)


async def _over(ended: asyncio.Event, within_s: float) -> bool:
    """Wait so long; is the run over?"""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await ended.wait()
    return ended.is_set()


async def _level(clients: Sequence[AsyncClient]) -> None:
    """Wait until all replicas hold the same."""
    deadline = perf_counter() + _LEVEL_S
    while True:
        if len({(await client.digest()).digest for client in clients}) == 1:
            return
        if perf_counter() > deadline:
            raise RuntimeError("the replicas did not become equal")
        await asyncio.sleep(0.1)


# -- what is watched ------------------------------------------------------------------------------


async def _watch(
    seconds: float, cluster: Sequence[Replica], paths: Sequence[Path]
) -> list[list[Sample]]:
    """For each replica its samples, while so much time goes by."""
    began = perf_counter()
    samples: list[list[Sample]] = [[] for _ in cluster]
    every_s = min(_SAMPLE_EVERY_S, seconds / 8)
    told_s = 0.0
    while (at_s := perf_counter() - began) < seconds:
        for own, replica, path in zip(samples, cluster, paths, strict=True):
            own.append(_sample(at_s, replica, path))
        if at_s >= told_s:
            told_s = at_s + _TOLD_EVERY_S
            print(f"after {at_s:.0f} s:", *(_summary(own[-1]) for own in samples), flush=True)
        await asyncio.sleep(every_s)
    return samples


def _summary(sample: Sample) -> str:
    memory, directory = (size / _MIB for size in (sample.memory_bytes, sample.directory_bytes))
    return f"[{memory:.1f} MiB in memory, {sample.files} files, {directory:.1f} MiB on disk]"


def _sample(at_s: float, replica: Replica, path: Path) -> Sample:
    return Sample(
        at_s,
        private_bytes(replica.pid),
        sum(1 for _ in Path(f"/proc/{replica.pid}/fd").iterdir()),
        sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
    )


def told(samples: Sequence[Sequence[Sample]]) -> list[Figure]:
    """What the samples of each replica say of the second half."""
    figures = []
    for name, own in zip(_NAMES, samples, strict=True):
        later = own[len(own) // 2 :]
        times = [one.at_s for one in later]
        slope = linear_regression(times, [one.memory_bytes for one in later]).slope
        memory = Round(slope * _HOUR_S / _MIB, {"MiB at the end": later[-1].memory_bytes / _MIB})
        files = _grown([one.files for one in later])
        directory = _grown([one.directory_bytes / _MIB for one in later])
        figures += [
            Figure(f"{name}: memory, MiB an hour", _MEMORY, [memory]),
            Figure(f"{name}: open files, end / middle", _FILES, [files]),
            Figure(f"{name}: data directory (MiB), end / middle", _DIRECTORY, [directory]),
        ]
    return figures


def _grown(later: Sequence[float]) -> Round:
    quarter = max(1, len(later) // 4)
    middle, end = mean(later[:quarter]), mean(later[-quarter:])
    return Round(end / middle, {"middle": middle, "end": end})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A cluster in steady use, and what grows.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
