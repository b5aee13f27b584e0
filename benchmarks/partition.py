"""Real replicas under a broken network: who is still answered, what it costs, whether it is right.

    python benchmarks/partition.py [SCENARIO]... [--quick] [--replicas N] [--seed N]
                                   [--json FILE] [--picture FILE]

Every replica is a process; every byte between two of them goes through a proxy (`wires`). A writer
at each replica works before, during and after the cut. When the network is mended it pauses until
all digests are equal (the time to converge) and then goes on.

Printed for each phase and side: how many operations were answered, and how fast; how far replicas
were behind, counted from outside by what they show; and the bytes between replicas against the
minimal delta: the records changed in the phase, as encoded at the end of the run, sent once to each
other replica. A phase's bytes count until all replicas are level after it, HTTP and the
probing of silent peers included. Exit code 1 if any answer is wrong or replicas do not converge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final, NamedTuple

from cluster import replicas
from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.codec import encode_record
from crdtdb.errors import CrdtdbError
from crdtdb.rows import read_record
from crdtdb.store.lmdb import LmdbStore
from crdtdb_client import AsyncClient
from crdtdb_server.ports import free_ports
from figures import quantile
from lag_picture import draw
from ledger import SHARED, Ledger, Shown, Write, progress_key, wrong_answers
from machine import BOTH, facts
from mixed_load import BUCKET, Asked, Writer
from outages import SCENARIOS, Scenario
from wires import Network

__all__ = ["NotConverged", "Seconds", "main", "run"]

_PHASES: Final = ("before", "during", "after")
_SAMPLE_EVERY_S: Final = 0.1
_CONVERGE_S: Final = 60.0


class Seconds(NamedTuple):
    """How long the writers work in each phase."""

    before: float
    during: float
    after: float


_FULL: Final = Seconds(5, 15, 5)
_QUICK: Final = Seconds(1, 3, 1)


class NotConverged(Exception):
    """Replicas did not become equal in time."""


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    document: dict[str, Any] = {**facts(), "seed": arguments.seed, "scenarios": []}
    seconds = _QUICK if arguments.quick else _FULL
    for name in arguments.scenarios or SCENARIOS:
        with TemporaryDirectory(prefix="crdtdb-bench-") as directory:
            try:
                measured = asyncio.run(
                    run(
                        SCENARIOS[name],
                        seconds,
                        arguments.replicas,
                        arguments.seed,
                        Path(directory),
                    )
                )
            except NotConverged as error:
                print(f"{name}: {error} (seed {arguments.seed})", file=sys.stderr)
                return 1
        document["scenarios"].append(measured)
        print(*_lines(measured), sep="\n", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if arguments.picture is not None:
        draw(document["scenarios"], arguments.picture)
    wrong = sum(len(one["wrong_answers"]) for one in document["scenarios"])
    print(f"\nseed {arguments.seed}: {wrong} wrong answers")
    return 1 if wrong else 0


async def run(
    scenario: Scenario, seconds: Seconds, count: int, seed: int, directory: Path
) -> dict[str, Any]:
    """One scenario, as a JSON document. Raises NotConverged."""
    names = [f"near-{number}" for number in range(1, count)] + ["far"]
    ports = free_ports(2 * count)
    network = Network(names, Random(f"{seed} wires"))
    directories = [directory / name for name in names]
    async with AsyncExitStack() as stack:
        gateways = dict(zip(names, zip(ports[:count], ports[count:], strict=True), strict=True))
        await stack.enter_async_context(network.gateways(gateways))
        cluster = replicas(directories, BOTH, ports=ports[count:], gateways=ports[:count])
        await asyncio.to_thread(cluster.__enter__)
        stack.push_async_callback(asyncio.to_thread, cluster.__exit__, None, None, None)
        urls = {name: f"http://127.0.0.1:{inner}" for name, (_, inner) in gateways.items()}
        trial = await stack.enter_async_context(_trial(network, urls, seed))
        phases = [
            await trial.phase(seconds.before),
            await trial.phase(seconds.during, _broken(network, scenario, seconds.during, seed)),
            await trial.phase(seconds.after),
        ]
        wrong = await trial.wrong_answers()
    for phase in phases:
        minimal = _minimal_bytes(phase.pop("writes"), directories[0]) * (count - 1)
        phase["minimal_delta_bytes"] = minimal
        phase["wire_per_minimal"] = phase["wire_bytes"] / minimal if minimal else None
    return {
        "name": scenario.name,
        "about": scenario.about,
        "cut_s": [phases[1]["began_s"], phases[1]["ended_s"]],
        "converged_after_heal_s": phases[1]["converged_s"],
        "wrong_answers": wrong,
        "unknown_outcomes": sum(not write.acknowledged for write in trial.ledger.writes),
        "phases": dict(zip(_PHASES, phases, strict=True)),
        "lag": trial.lag,
    }


@asynccontextmanager
async def _broken(
    network: Network, scenario: Scenario, seconds: float, seed: int
) -> AsyncIterator[None]:
    """What happens to the network in so many seconds; at the end it is mended."""

    async def take_steps() -> None:
        began = perf_counter()
        for step in scenario.steps(network.names, Random(f"{seed} steps")):
            await asyncio.sleep(began + step.at * seconds - perf_counter())
            for route in step.routes:
                network.put(route, step.fault)

    taking = asyncio.create_task(take_steps())
    try:
        yield
        await taking
    finally:
        taking.cancel()
        network.mend()


@asynccontextmanager
async def _trial(network: Network, urls: Mapping[str, str], seed: int) -> AsyncIterator[_Trial]:
    trial = _Trial(network, urls, seed)
    sampling = asyncio.create_task(trial.sample())
    try:
        await trial.level()
        yield trial
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        await trial.close()


class _Trial:
    """The writers of one run, and who watches the replicas meanwhile."""

    def __init__(self, network: Network, urls: Mapping[str, str], seed: int) -> None:
        self.ledger = Ledger(urls)
        self.lag: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
        self._network = network
        self._watchers = {name: AsyncClient(url) for name, url in urls.items()}
        self._writers = [
            Writer(name, url, self.ledger, Random(f"{seed} {name}")) for name, url in urls.items()
        ]
        self._began = perf_counter()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(
            *(writer.close() for writer in self._writers),
            *(watcher.close() for watcher in self._watchers.values()),
        )

    async def phase(
        self, seconds: float, meanwhile: AbstractAsyncContextManager[None] | None = None
    ) -> dict[str, Any]:
        """Let the writers work while something happens; then wait until all are level.

        It lasts so many seconds, and until there is something to tell of each replica.
        """
        first_write, carried = len(self.ledger.writes), self._network.carried_bytes
        first_asked = [len(writer.asked) for writer in self._writers]
        stop = asyncio.Event()
        began_s = self._now_s()
        async with asyncio.TaskGroup() as group:
            for writer in self._writers:
                group.create_task(writer.work(stop))
            async with meanwhile or nullcontext():
                await asyncio.sleep(seconds)
                await self._seen_since(first_write)
                ended_s = self._now_s()
            stop.set()
        converged_s = await self.level()
        *near, far = [
            writer.asked[first:] for writer, first in zip(self._writers, first_asked, strict=True)
        ]
        points = {
            name: [point for point in points if began_s <= point["at_s"] <= ended_s]
            for name, points in self.lag.items()
        }
        return {
            "began_s": began_s,
            "ended_s": ended_s,
            "converged_s": converged_s,
            "near": _asked([asked for one in near for asked in one]),
            "far": _asked(far),
            "backlog_operations": _most(points, "backlog_operations"),
            "lag_s": _most(points, "lag_s"),
            "wire_bytes": self._network.carried_bytes - carried,
            "writes": self.ledger.writes[first_write:],
        }

    async def _seen_since(self, first: int) -> None:
        """Wait, but not for ever, until each replica has taken a write and was looked at since."""
        deadline = perf_counter() + _CONVERGE_S

        async def until(is_so: Callable[[], bool]) -> None:
            while not is_so() and perf_counter() < deadline:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(_SAMPLE_EVERY_S / 10)

        def origins() -> set[str]:
            return {write.origin for write in self.ledger.writes[first:] if write.acknowledged}

        await until(lambda: origins() == self.lag.keys())
        # The next look may have begun before that.
        looks = {name: len(points) + 2 for name, points in self.lag.items()}
        await until(lambda: all(len(self.lag[name]) >= count for name, count in looks.items()))

    async def level(self) -> float:
        """Wait until all digests are equal; how long that took. Raises NotConverged."""
        began = perf_counter()
        while True:
            digests = await asyncio.gather(*(one.digest() for one in self._watchers.values()))
            took_s = perf_counter() - began
            if len(set(digests)) == 1:
                return took_s
            if took_s > _CONVERGE_S:
                raise NotConverged(f"digests differ after {_CONVERGE_S:g} s: {digests}")
            await asyncio.sleep(0.02)

    async def sample(self) -> None:
        """Note again and again how far each replica is behind, by what it shows."""
        await asyncio.gather(*(self._watch(name) for name in self._watchers))

    async def _watch(self, name: str) -> None:
        objects = [
            ObjectName(BUCKET, "counter", progress_key(origin)) for origin in self.ledger.answered_s
        ]
        while True:
            await asyncio.sleep(_SAMPLE_EVERY_S)
            at = perf_counter()
            try:
                reads = await self._watchers[name].read_together(objects)
            except CrdtdbError:
                continue
            shown = dict(zip(self.ledger.answered_s, (read.value for read in reads), strict=True))
            missing, lag_s = self.ledger.behind(shown, at)
            self.lag[name].append(
                {"at_s": at - self._began, "lag_s": max(lag_s, 0.0), "backlog_operations": missing}
            )

    async def wrong_answers(self) -> list[str]:
        """What any replica shows that a plain loop over the acknowledged writes does not."""
        wrong = [unread for writer in self._writers for unread in writer.unread]
        for name, client in self._watchers.items():
            found = wrong_answers(self.ledger.writes, await _shown(client, self.ledger))
            wrong += [f"{name}: {one}" for one in found]
        return wrong

    def _now_s(self) -> float:
        return perf_counter() - self._began


async def _shown(client: AsyncClient, ledger: Ledger) -> Shown:
    counters = [SHARED, *(progress_key(origin) for origin in ledger.answered_s)]
    registers = sorted({write.key for write in ledger.writes if write.kind == "set"})
    return Shown(
        {key: (await client.counter(BUCKET, key).get()).value for key in counters},
        frozenset([str(member) async for member in client.set(BUCKET, SHARED)]),
        {key: (await client.register(BUCKET, key).get()).value for key in registers},
    )


def _asked(asked: Sequence[Asked]) -> dict[str, Any]:
    times = sorted(one.seconds for one in asked if one.answered)
    return {
        "asked": len(asked),
        "answered": len(times),
        "availability": len(times) / len(asked) if asked else None,
        "p50_ms": quantile(times, 0.5) * 1_000 if times else None,
        "p99_ms": quantile(times, 0.99) * 1_000 if times else None,
    }


def _most(points: Mapping[str, Sequence[dict[str, float]]], what: str) -> dict[str, float]:
    return {name: max((one[what] for one in of), default=0) for name, of in points.items()}


def _minimal_bytes(writes: Sequence[Write], directory: Path) -> int:
    """The records that writes changed, each once, with their addresses."""
    changed = {at for write in writes for at in _addresses(write)}
    store = LmdbStore.open(directory)
    try:
        with store.snapshot() as snapshot:
            return sum(
                len(at) + len(encode_record(at, read_record(snapshot, at)[0])) for at in changed
            )
    finally:
        store.close()


def _addresses(write: Write) -> list[bytes]:
    progress = address.own(ObjectName(BUCKET, "counter", progress_key(write.origin)))
    match write.kind:
        case "count":
            return [progress, address.own(ObjectName(BUCKET, "counter", write.key))]
        case "set":
            return [progress, address.own(ObjectName(BUCKET, "register", write.key))]
        case _:
            return [progress, address.member(ObjectName(BUCKET, "set", write.key), write.value)]


def _lines(measured: dict[str, Any]) -> list[str]:
    """A scenario, for people."""
    lines = [f"\n{measured['name']}: {measured['about']}"]
    for name, phase in measured["phases"].items():
        for side in ("near", "far"):
            one = phase[side]
            lines.append(
                f"  {name:<7}{side:<5}{one['answered']:>6} of {one['asked']:<6} answered, "
                f"p50 {one['p50_ms'] or 0:>6.1f} ms, p99 {one['p99_ms'] or 0:>6.1f} ms"
            )
        lines.append(
            f"         behind at most {max(phase['lag_s'].values()):.2f} s, "
            f"{max(phase['backlog_operations'].values()):,.0f} operations; "
            f"wire {phase['wire_bytes']:,} bytes, minimal {phase['minimal_delta_bytes']:,}"
        )
    lines.append(f"  equal {measured['converged_after_heal_s']:.3f} s after the heal")
    lines += [f"  WRONG {one}" for one in measured["wrong_answers"]]
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Real replicas under a broken network.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="short phases (about 10 s each)")
    parser.add_argument("--replicas", type=int, default=3, help="processes, 2 or more (3)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the lag (PNG, SVG)")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - SCENARIOS.keys():
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if arguments.picture is not None and find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib: python -m pip install --group bench")
    if arguments.replicas < 2:
        parser.error("a network needs 2 replicas or more")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
