"""Broken variants of the core, each of which the simulation must find red.

Each is a mistake that somebody could make (most of them were made in an earlier version of the
design), planted while the context lasts. The docstring tells what goes wrong then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import msgspec
import xxhash

from crdtdb import address, codec, draft
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.cuts import covered
from crdtdb.draft import Draft, Span
from crdtdb.engine import Drafted, Engine
from crdtdb.errors import NoSpace, PeerError
from crdtdb.floors import Floors
from crdtdb.reclaim import _Portion
from crdtdb.record import Record
from crdtdb.replication import cluster, donor, early, machine, pull, repair, summaries
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.donor import read_page
from crdtdb.replication.messages import Claim, Gone, Page, Pull, Push, Sender, Talk
from crdtdb.replication.peers import Peer
from crdtdb.replication.repair import Repair
from crdtdb.replication.twins import Twins
from crdtdb.state import State
from crdtdb.store.base import Batch
from simulation.disk import Disk
from simulation.network import CALM

__all__ = [
    "BROKEN",
    "Broken",
    "absence_means_nothing",
    "damage_counts_for_nothing",
    "evicted_unfenced",
    "identity_unasked",
    "late_frames_displace",
    "pushes_are_hints",
    "reclaimed_unsaid",
    "rejoin_without_giving",
    "session_that_moves_on",
]


#: Nothing that is lost with a disk.
_STEADY: Final = MappingProxyType({"cut": 4, "crash": 3, "clock_jump": 1})


class Broken(NamedTuple):
    """A planted mistake and the checks of which one must find it first."""

    plant: Callable[[], AbstractContextManager[None]]
    checks: frozenset[str]
    #: Circumstances that it takes, of the run's plan.
    given: Mapping[str, Any] = MappingProxyType({"faults": _STEADY})


@contextmanager
def union_of_live() -> Iterator[None]:
    """Records are joined without their contexts.

    What one side removed and the other still holds is taken for new: removed members, replaced
    values and disabled flags come back with the next message that repeats them.
    """

    def union(
        a: Record, b: Record, a_seen: VersionVector = NOTHING, b_seen: VersionVector = NOTHING
    ) -> Record:
        return Record({**a.live, **b.live}, a.context.join(b.context))

    with patch.object(draft, "join", union):
        yield


@contextmanager
def claim_on_the_first_page() -> Iterator[None]:
    """A donor claims its whole version vector with every page, not only at its head.

    The puller stops there and believes to have what later pages would have brought.
    """

    def claiming(engine: Engine, asked: Pull, seen: VersionVector) -> Page | Gone:
        page = read_page(engine, asked, seen)
        if isinstance(page, Gone):
            return page
        claim = Claim(engine.state.seen.flat(), engine.state.time)
        return Page(page.session, page.since, page.epoch, page.next, page.records, claim)

    with patch.object(repair, "read_page", claiming):
        yield


@contextmanager
def push_over_a_gap() -> Iterator[None]:
    """A push is applied although an earlier one of its origin is missing.

    The version vector then covers the missing one, so nobody ever sends it again.
    """

    def fits(push: Push, seen: VersionVector, floors: Floors) -> bool:
        return seen.get(push.origin) < push.last

    with patch.object(machine, "fits", fits), patch.object(early, "fits", fits):
        yield


@contextmanager
def pushes_are_hints() -> Iterator[None]:
    """What a push brings is asked for, and not taken in.

    Who is heard and cannot be asked is never known to have written anything.
    """

    def ask(self: machine.Replication, peer: Peer, _: Push) -> list[Send]:
        return self._cluster.answer(peer, self._summaries.question())

    with patch.object(machine.Replication, "_on_push", ask):
        yield


@contextmanager
def lost_fsync() -> Iterator[None]:
    """A disk says that a commit is durable, and a crash undoes the last one all the same."""
    commit, remount = Disk.commit, Disk.remount

    def remembering(disk: Disk, batch: Batch) -> None:
        if not disk.crashed:
            disk.back_up()
        commit(disk, batch)

    def forgetting(disk: Disk) -> None:
        disk.roll_back()
        disk.rolled_back = False
        remount(disk)

    with patch.object(Disk, "commit", remembering), patch.object(Disk, "remount", forgetting):
        yield


@contextmanager
def pages_as_they_come() -> Iterator[None]:
    """The pages of a pull take effect one by one instead of together at the claim.

    Half of a transaction can be seen, and passed on, before the other half; and if the donor dies
    in between, it stays so.
    """
    on_page = Repair.on_page

    def applying(self: Repair, peer: Peer, page: Page) -> list[Send]:
        if self.pull is not None and page.claim is None:
            engine = self._cluster.engine
            before = seen = engine.state.seen
            for at, data in page.records:
                record = codec.decode_record(at, data)
                seen = seen.join(record.context)
                if address.is_cut(at):
                    seen = seen.join(covered(record.live))
            Engine.merge(engine, page.records, seen, 0)
            engine._write(None, seen=before)
        return on_page(self, peer, page)

    with patch.object(Repair, "on_page", applying):
        yield


@contextmanager
def session_that_moves_on() -> Iterator[None]:
    """Each page of a pull is filtered by what the puller has seen by then.

    A record that was sent, changed at the donor, and whose change reached the puller by a push, is
    not sent again: what is staged of it is older than what the claim says.
    """
    on_page = Repair.on_page

    def moving(self: Repair, peer: Peer, page: Page) -> list[Send]:
        if self.pull is not None:
            self.pull.seen = self._cluster.seen
        return on_page(self, peer, page)

    with patch.object(Repair, "on_page", moving):
        yield


@contextmanager
def identity_unasked() -> Iterator[None]:
    """A replica goes on under its incarnation without asking the members.

    Its disk was put back to an earlier state: it gives new operations the dots of lost ones, which
    others have seen, and who has seen a dot ignores it.
    """

    def settle(cluster: Cluster) -> None:
        cluster.settled = True

    with patch.object(Cluster, "settle_if_confirmed", settle):
        yield


@contextmanager
def folding_too_early() -> Iterator[None]:
    """Operations are folded as soon as this replica has seen them, stable or not.

    Who lacks some of them meets a base that holds them, and cannot tell which of its own
    operations are in it.
    """

    def stable(cluster: Cluster) -> VersionVector:
        return cluster.seen

    with patch.object(Cluster, "stable", stable):
        yield


@contextmanager
def tombstones_too_early() -> Iterator[None]:
    """A tombstone is dropped as soon as this replica has it, and nobody is told.

    Who pulls after that never hears of the delete.
    """
    visit = _Portion._visit

    def early(self: _Portion, at: bytes) -> None:
        walk, before = self._walk, self.vector
        stable = walk.stable
        if not address.is_cut(at) and not self._draft.record(at).live:
            walk.stable = self._draft.seen
            visit(self, at)
            self.vector = before
        else:
            visit(self, at)
        walk.stable = stable

    with patch.object(_Portion, "_visit", early):
        yield


@contextmanager
def cuts_unswept() -> Iterator[None]:
    """A cut is dropped before what it covers: that shows again."""
    with patch.object(_Portion, "_sweep_record", lambda *_: None):
        yield


@contextmanager
def absence_means_nothing() -> Iterator[None]:
    """Who pulls whole keeps what the donor does not hold any more.

    Its disk was put back to a time before a delete that is reclaimed since.
    """

    def join(
        self: Draft, incoming: list[tuple[bytes, Record]], seen: VersionVector, _: Span
    ) -> None:
        for at, record in incoming:
            self.join(at, record, seen)

    with patch.object(Draft, "join_whole", join):
        yield


@contextmanager
def reclaimed_unsaid() -> Iterator[None]:
    """A donor does not say that it has reclaimed deletes: who rejoins pulls only what it lacks.

    What was deleted while it was out is still there, and stays there.
    """
    unsaid = property(lambda engine: engine._reclaimed._replace(vector=NOTHING))
    with patch.object(Engine, "reclaimed", unsaid):
        yield


@contextmanager
def rejoin_without_giving() -> Iterator[None]:
    """Who pulls whole takes the donor's state for everything, and its own is gone.

    What it wrote before it knew that it was out is in nobody's hands then.
    """
    join_whole = Draft.join_whole

    def join(
        self: Draft, incoming: list[tuple[bytes, Record]], seen: VersionVector, span: Span
    ) -> None:
        join_whole(self, incoming, seen.join(self.seen), span)

    with patch.object(Draft, "join_whole", join):
        yield


@contextmanager
def evicted_unfenced() -> Iterator[None]:
    """What an evicted replica sends is taken in as if it were a member."""

    def take(self: machine.Replication, sender: Sender, message: Talk, via: str) -> list[Send]:
        return self._take(self._cluster.meet(sender, via), message)

    with patch.object(machine.Replication, "_fence", take):
        yield


@contextmanager
def late_frames_displace() -> Iterator[None]:
    """Who lost its endpoint to another is refused while that one was heard lately.

    A late frame of an earlier incarnation, where only the later one is known, makes the one that is
    alive look like the one that was displaced.
    """

    def check(self: Twins, sender: Sender, via: str, now_ms: int) -> None:
        if self._displaced.pop(sender.incarnation, None) is not None:
            raise PeerError("identity-conflict", "displaced")

    with patch.object(Twins, "check", check):
        yield


@contextmanager
def copy_goes_on() -> Iterator[None]:
    """A copied directory is not recognised: two machines go on under one incarnation.

    Both give out the same dots, and whoever has seen those of one ignores those of the other.
    """
    with patch.object(Disk, "location", property(lambda disk: b"here")):
        yield


@contextmanager
def clock_goes_back() -> Iterator[None]:
    """The high-water mark of the clock is lost over a restart.

    With a wall clock that was put back meanwhile, later writes get earlier times.
    """
    decode = State.decode

    def forgetful(data: bytes) -> State:
        return msgspec.structs.replace(decode(data), time=0)

    with patch.object(State, "decode", forgetful):
        yield


@contextmanager
def flipped_frames_pass() -> Iterator[None]:
    """The checksum of a frame is not looked at."""
    unpack = codec.unpack_whole

    def passing(version: int, data: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
        return unpack(version, data[:1] + xxhash.xxh3_64_digest(data[9:]) + data[9:], decoder)

    with patch.object(codec, "unpack_whole", passing):
        yield


@contextmanager
def flipped_records_pass() -> Iterator[None]:
    """The checksum of a stored record is not looked at: what is damaged is shown, and spread."""
    decode = codec._decode

    def passing(at: bytes, data: bytes, *, seed: int) -> Record:
        whole = data[:1] + xxhash.xxh3_64_digest(at + data[9:], seed) + data[9:]
        return decode(at, whole, seed=seed)

    with patch.object(codec, "_decode", passing):
        yield


@contextmanager
def damage_counts_for_nothing() -> Iterator[None]:
    """A damaged record is taken for one that held nothing.

    Its replica then claims over it to whom lacks what it held, and takes over the record of a peer
    that has yet to see some of it.
    """
    with patch.object(Engine, "_bound", lambda *_: NOTHING):
        yield


@contextmanager
def full_disk_unnoticed() -> Iterator[None]:
    """A commit that found no room is taken for done."""
    persist = Engine.persist

    def hopeful(self: Engine, drafted: Drafted) -> None:
        with suppress(NoSpace):
            persist(self, drafted)

    with patch.object(Engine, "persist", hopeful):
        yield


@contextmanager
def floor_left_out() -> Iterator[None]:
    """Vectors are written without what is below their floor, and without its name.

    The entries of incarnations that have ended are then gone for whoever reads them: a replica
    seems to have seen less than the records it sends, and what it removed seems to be new to it.
    """
    with ExitStack() as planted:
        for module in (cluster, donor, pull, summaries):
            planted.enter_context(patch.object(module, "write_floored", VersionVector.flat_above))
        yield


_WRONG_READ: Final = frozenset({"value", "existence", "size", "leaves"})
_EVICTIONS: Final = {
    "faults": {"cut": 4, "crash": 3, "evict": 3},
    "feed_ms": 0,
    "commit_ms": 20,
    "fault_ms": 900,
}
#: What damage may be found by that does not change what the damaged object shows.
_WRONG_BOOKS: Final = frozenset({"contexts", "heads", "sequence", "digest", "exception", "growth"})
_FLIPS: Final = CALM._replace(flips=0.02)


def _with(*faults: str) -> dict[str, Any]:
    """A plan with these faults again and again, and crashes."""
    return {"faults": {"crash": 2, **dict.fromkeys(faults, 3)}, "spare": 2, "fault_ms": 700}


#: Name → the planted mistake; those that seeds find (`test_stories.py`, `scenarios` tell others).
BROKEN: Final[dict[str, Broken]] = {
    broken.plant.__name__: broken
    for broken in (
        Broken(union_of_live, _WRONG_READ | {"refusal", "digest"}),
        Broken(claim_on_the_first_page, _WRONG_READ),
        Broken(push_over_a_gap, _WRONG_READ | {"causality"}),
        Broken(lost_fsync, frozenset({"durability"})),
        Broken(pages_as_they_come, _WRONG_READ | {"refusal"}),
        Broken(folding_too_early, _WRONG_READ | {"stability", "refusal"}),
        Broken(late_frames_displace, frozenset({"refusal"})),
        Broken(tombstones_too_early, _WRONG_READ | {"digest"}),
        Broken(cuts_unswept, _WRONG_READ | {"heads"}),
        Broken(copy_goes_on, frozenset({"dot-reuse", "refusal"}), _with("directory_copied")),
        Broken(clock_goes_back, frozenset({"clock"}), _with("clock_jump")),
        Broken(flipped_frames_pass, frozenset({"damage"}), _with() | {"weather": _FLIPS}),
        Broken(
            flipped_records_pass, _WRONG_READ | _WRONG_BOOKS | {"refusal"}, _with("record_flipped")
        ),
        Broken(
            full_disk_unnoticed, _WRONG_READ | _WRONG_BOOKS | {"WriteCORead"}, _with("disk_full")
        ),
        Broken(evicted_unfenced, frozenset({"fencing"}), _EVICTIONS),
        Broken(
            floor_left_out,
            _WRONG_READ | {"refusal", "convergence", "reclaiming"},
            _with("disk_lost", "directory_copied", "cut"),
        ),
    )
}
