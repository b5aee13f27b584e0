"""Everybody writes, nobody reaches everybody: how often a record is sent, and how soon all have it.

Each record has to reach each other replica once: that is the least. A round is the time between two
digests of a replica, so within diameter + 1 rounds means: no slower than if every replica spoke
with all its neighbours once a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import log2
from random import Random
from typing import Final

from crdtdb.engine import Entropy
from crdtdb.replication.members import adding
from crdtdb.replication.messages import Sender
from crdtdb.replication.summaries import DIGEST_INTERVAL_MS
from crdtdb.store.base import Store
from crdtdb.store.memory import MemoryStore
from figures import Figure, Round, at_most
from overlays import Overlay, random_mesh
from updates import members, update
from virtual_network import Network, Replica, Traffic

__all__ = ["crowd", "dissemination", "formed"]

#: The best published algorithm, delta-based with back-propagation and redundancy removed, on the
#: mesh of 15 (Enes et al., ICDE 2019).
_PUBLISHED: Final = {"partialmesh-15": 3.28}
_SENT_BOUND: Final = at_most(1.05)
_ROUNDS_BOUND: Final = at_most(1.0)
#: Between two updates of one replica.
_UPDATE_EVERY_MS: Final = 100
_FORM_MS: Final = 120_000
_CONVERGE_MS: Final = 60_000
#: After forming: whatever was under way is done.
_SETTLE_MS: Final = 5_000
#: Neighbours have greeted each other.
_GREETED_MS: Final = 1_000
#: Neighbours of each of many replicas, on average.
_CROWD_NEIGHBOURS: Final = 10


def dissemination(overlay: Overlay, updates: int, seed: int) -> Iterator[Figure]:
    """So many updates of each replica of an overlay: each adds a member to one set."""
    random = Random(f"{seed} {overlay.name}")
    network = formed(overlay, random)
    for replica in network.replicas.values():
        first_ms = random.randrange(_UPDATE_EVERY_MS)
        for number in range(updates):
            write = partial(_add, replica, random)
            network.after(first_ms + number * _UPDATE_EVERY_MS, write)
    network.run_until(network.now_ms + updates * _UPDATE_EVERY_MS)
    took_ms = network.run_while(lambda: not network.is_level, _CONVERGE_MS)
    traffic, size = network.traffic, len(network.replicas)
    events = size * updates
    sent: dict[str, float] = {
        "records sent": traffic.records,
        "least": events * (size - 1),
        "pushed or pulled in vain": traffic.records - events * (size - 1),
        "body bytes / record bytes": traffic.body_bytes / traffic.record_bytes,
    }
    if overlay.name in _PUBLISHED:
        sent["best published"] = _PUBLISHED[overlay.name]
    name = f"{overlay.name}: records sent / events × (n - 1)"
    yield Figure(name, _SENT_BOUND, [Round(traffic.records / sent["least"], sent)])
    rounds = took_ms / DIGEST_INTERVAL_MS
    converged = {
        "rounds": rounds,
        "diameter": overlay.diameter,
        "ms": took_ms,
        "most hops of a record": _most_hops(network),
    }
    name = f"{overlay.name}: rounds to converge / (diameter + 1)"
    yield Figure(name, _ROUNDS_BOUND, [Round(rounds / (overlay.diameter + 1), converged)])


def formed(
    overlay: Overlay, random: Random, store_at: Callable[[bytes], Store] = MemoryStore
) -> Network:
    """Fresh replicas that have found each other over the links of an overlay; nothing counted."""
    network = Network(Random(random.getrandbits(64)))
    for number, neighbours in enumerate(overlay.neighbours):
        store = store_at(f"replica {number}".encode())
        network.add(f"r{number}", store, [f"r{other}" for other in neighbours])
    network.run_while(lambda: not (network.is_formed and network.is_level), _FORM_MS)
    network.run_until(network.now_ms + _SETTLE_MS)
    network.traffic = Traffic()
    return network


def _add(replica: Replica, random: Random) -> None:
    ((value,),) = members(random, 1)
    replica.write(update("set", "all", "add", value=value))


def _most_hops(network: Network) -> int:
    return max(hops for replica in network.replicas.values() for hops in replica.hops.values())


def crowd(number: int, seed: int) -> Figure:
    """One update among very many replicas, each of which reaches about ten others.

    They begin as copies of one store that names them all as members, each with its own identity,
    and all have heard of each other that they have seen that: as long after one replica has taken
    in all others.
    """
    random = Random(f"{seed} crowd")
    overlay = random_mesh(number, _CROWD_NEIGHBOURS, random)
    founding = MemoryStore(b"founding")
    founder = Replica("founder", founding, Network(random), (), random)
    founder.engine.mark_served()
    incarnations = [random.getrandbits(63) + 1 for _ in range(number)]
    for place, incarnation in enumerate(incarnations):
        sender = Sender("crdtdb", incarnation, f"r{place}", "", f"r{place}", False)
        founder.engine.commit([adding(sender)])
    network = Network(random)
    for place, neighbours in enumerate(overlay.neighbours):
        network.add(
            f"r{place}",
            founding.copy(f"replica {place}".encode()),
            [f"r{other}" for other in neighbours],
            _identity(incarnations[place], random),
        )
    for replica in network.replicas.values():
        for incarnation in incarnations:
            replica.replication._cluster.counting.note(incarnation, replica.seen, 0)
    network.run_until(_GREETED_MS)
    network.traffic = Traffic()
    _add(network.replicas["r0"], random)
    took_ms = network.run_while(lambda: not network.is_level, _CONVERGE_MS)
    rounds = took_ms / DIGEST_INTERVAL_MS
    measured = {
        "rounds": rounds,
        "log2 n": log2(number),
        "ms": took_ms,
        "most hops of a record": _most_hops(network),
        "records sent / (n - 1)": network.traffic.records / (number - 1),
        "requests a replica": network.traffic.requests / number,
    }
    name = f"{number:,} replicas: rounds to converge / log2 n"
    return Figure(name, None, [Round(rounds / log2(number), measured)])


def _identity(incarnation: int, random: Random) -> Entropy:
    """Random numbers, the second of which, a copied store's identity, is a certain one."""
    first = [random.getrandbits(64), incarnation]

    def entropy(bits: int) -> int:
        return first.pop(0) if first else random.getrandbits(bits)

    return entropy
