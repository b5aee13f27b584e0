"""Looking for damage, a portion with every tick, and having what is found mended by a peer.

A walk over the whole store (`crdtdb.scrub`) takes its time: some hundred rows with a tick, none
while others write, and a rest when it is through. Its position is kept now and then, so a restart
does not begin anew.

While a record is damaged, this replica asks one peer after another for what it holds in those
places, together with everything else that is missing here, for the damage keeps this replica from
taking in whatever touches it; all of it takes effect in one commit. If that is more than a message
carries, it is pulled (`replacing`). Only a peer that has seen what the records of the damaged
object come to can help. One that lacks some of that can get it by a pull, for this replica still
gives what is sound to whom knows all that the damaged records held (`donor`).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from crdtdb.causal import NOTHING, VersionVector
from crdtdb.damage import Kind, Replacement
from crdtdb.engine import Engine
from crdtdb.errors import NoSpace, StorageFailed
from crdtdb.kinds import object_of
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.donor import read_page
from crdtdb.replication.members import SYSTEM_PREFIX
from crdtdb.replication.messages import Claim, Mend, Mended, Page, Pull, Refused, read_vector
from crdtdb.replication.peers import Peer
from crdtdb.replication.replacing import together
from crdtdb.scrub import Scrub
from crdtdb.store.base import Table

__all__ = ["Mending"]

#: Rows looked at with one tick: a millisecond or two of the event loop.
SCRUB_ROWS: Final = 64
#: A walk begins so long after the start, and so long after the last one.
FIRST_MS: Final = 10_000
REST_MS: Final = 3_600_000
#: While others write it looks at a portion only so often.
BUSY_MS: Final = 1_000
#: The position is kept after so many rows.
KEPT_ROWS: Final = 100_000
#: META row: the position of the walk.
POSITION_KEY: Final = b"scrub"

#: How often a peer is asked to mend, and how many records at a time, at least.
ASK_MS: Final = 1_000
MOST_RECORDS: Final = 16
#: What else a peer may send along.
MOST_PAGES: Final = 16


class Mending:
    """Drives `Engine.scrub`, and asks peers to mend what it has found."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._scrub: Scrub | None = None
        self._kept_rows = 0
        self._due_ms: int | None = None
        self._head = -1
        self._ask_ms = 0
        #: The request under way: its number, who was asked, and for which records.
        self._asked: tuple[int, int, list[bytes]] | None = None
        #: The last record that was asked for, and whether nothing has come of it.
        self._asked_to = b""
        self._in_vain = False
        #: Damaged records of which one bit had flipped, put right since the start.
        self.righted = 0
        #: Since the start: damaged rows found, rows looked at, walks finished.
        self.found = 0
        self.rows = 0
        self.walks = 0

    @property
    def mended(self) -> int:
        """Damaged records put right since the start: by peers, or by what they say themselves."""
        return self._cluster.mended + self.righted

    # -- looking --------------------------------------------------------------------------------

    @property
    def progress(self) -> float | None:
        """How much of the store the walk under way has looked at, 0 to 1; None: there is none."""
        if self._scrub is None:
            return None
        return self._scrub.progress(self._cluster.engine.store.stats().entries)

    def start(self) -> None:
        """Look at all that is known of the cluster, which is little, before anybody goes by it.

        What is damaged of it is made anew, or waits for a peer: who counts is not to be guessed.
        """
        try:
            self.look_below(SYSTEM_PREFIX)
        except (NoSpace, StorageFailed):
            self._cluster.refusals["scrub-failed"] += 1

    def look_below(self, prefix: bytes) -> None:
        """Look at all records below an address prefix. Raises NoSpace or StorageFailed."""
        scrub = Scrub(within=prefix)
        while not scrub.done:
            self._look(scrub)

    def tick(self) -> list[Send]:
        """Look on for one portion, and ask somebody to mend. Cheap when there is nothing to do."""
        try:
            self._look_on()
        except (NoSpace, StorageFailed):
            self._cluster.refusals["scrub-failed"] += 1
            self._due_ms = self._cluster.now_ms + REST_MS
        return self._ask()

    def _look(self, scrub: Scrub) -> None:
        engine = self._cluster.engine
        found = engine.scrub(scrub, SCRUB_ROWS)
        self.found += len(found)
        records = (damage.key for damage in found if damage.kind is Kind.RECORD)
        self.righted += sum(at not in engine.damaged for at in records)

    def _look_on(self) -> None:
        cluster = self._cluster
        now_ms, head = cluster.now_ms, cluster.engine.state.sequence
        if self._due_ms is None:
            self._due_ms = now_ms + FIRST_MS
        is_busy, self._head = head != self._head, head
        if now_ms < self._due_ms:
            return
        if is_busy:
            self._due_ms = now_ms + BUSY_MS
        scrub = self._scrub or Scrub(_kept_position(cluster.engine))
        self._scrub = scrub
        before = scrub.rows
        self._look(scrub)
        self.rows += scrub.rows - before
        if scrub.done:
            self._scrub, self._kept_rows = None, 0
            self.walks += 1
            self._due_ms = now_ms + REST_MS
            cluster.engine.keep(POSITION_KEY, None)
        elif scrub.rows - self._kept_rows >= KEPT_ROWS:
            self._kept_rows = scrub.rows
            cluster.engine.keep(POSITION_KEY, scrub.position)

    # -- asking ---------------------------------------------------------------------------------

    def _ask(self) -> list[Send]:
        cluster = self._cluster
        damaged = cluster.engine.damaged
        if not damaged or cluster.now_ms < self._ask_ms or cluster.staging.donor is not None:
            return []  # a pull under way asks at its end
        self._ask_ms = cluster.now_ms + ASK_MS
        able = [
            peer
            for incarnation, peer in cluster.peers.items()
            if incarnation in cluster.members and not peer.where.startswith("~")
        ]
        if not able:
            return []
        peer = cluster.random.choice(able)
        number = cluster.random.getrandbits(32)
        addresses = self._next_of(sorted(damaged))
        self._asked_to, self._in_vain = addresses[-1], True
        self._asked = (number, peer.sender.incarnation, addresses)
        cursor = cluster.cursors.of(peer.sender.incarnation)
        return cluster.answer(peer, Mend(number, *cursor, cluster.seen.flat(), addresses))

    def _next_of(self, damaged: list[bytes]) -> list[bytes]:
        """The records to ask for next: those of one object, if more were asked for in vain."""
        place = bisect_right(damaged, self._asked_to)
        return together(damaged[place:] + damaged[:place], 1 if self._in_vain else MOST_RECORDS)

    def on_mended(self, peer: Peer, message: Mended) -> list[Send]:
        """Put what a peer holds in the place of what is damaged, if it is what was asked for."""
        cluster = self._cluster
        if self._asked is None or self._asked[:2] != (message.session, peer.sender.incarnation):
            return []
        asked, self._asked = self._asked[2], None
        seen = read_vector(message.claim.seen)
        addresses = _known(cluster.engine, asked, seen)
        try:
            if len(addresses) < len(asked) and (count := cluster.engine.put_back(message.held)):
                cluster.mended += count
                self._in_vain = False
                addresses = [at for at in addresses if at in cluster.engine.damaged]
            if not addresses:
                return []  # it has yet to catch up
            sends = cluster.merge(
                message.records,
                seen,
                message.claim.time,
                replacement=Replacement(addresses, message.held),
            )
        except (NoSpace, StorageFailed):
            # More of these objects is damaged than has been found so far, or the disk refuses.
            cluster.refusals["mend-failed"] += 1
            return []
        self._ask_ms, self._in_vain = 0, False
        cluster.note_seen(peer, seen)
        return sends

    # -- giving ---------------------------------------------------------------------------------

    def on_mend(self, peer: Peer, message: Mend) -> list[Send]:
        """Say what is here in the places that are damaged there, and all else that is missing."""
        cluster = self._cluster
        if peer.sender.incarnation not in cluster.members:
            return cluster.answer(peer, Refused("no-member"))
        cluster.note_seen(peer, read_vector(message.seen))
        try:
            answer: Mended | Refused = _mended(cluster.engine, message)
        except StorageFailed:
            sound = cluster.engine.sound(message.damaged)
            nothing = Claim(NOTHING.flat(), cluster.engine.state.time)
            answer = Mended(message.session, nothing, sound, []) if sound else Refused("damaged")
        return cluster.answer(peer, answer)


def _known(engine: Engine, asked: list[bytes], seen: VersionVector) -> list[bytes]:
    """Those damaged records of which whoever has seen so much knows all; of an object all or none.

    What an object's records come to is counted again, which takes all of them.
    """
    damaged = [at for at in asked if at in engine.damaged]
    lacking = {at for at in damaged if not seen.includes(engine.damaged[at].seen)}
    objects = {object_of(at) for at in lacking} - {b""}
    return [at for at in damaged if at not in lacking and object_of(at) not in objects]


def _kept_position(engine: Engine) -> bytes:
    with engine.store.snapshot() as snapshot:
        position = snapshot.get(Table.META, POSITION_KEY) or b""
    try:
        Scrub(position)
    except ValueError:
        return b""
    return position


def _mended(engine: Engine, message: Mend) -> Mended | Refused:
    """Everything is of one state: the engine changes nothing meanwhile. Raises StorageFailed."""
    seen = read_vector(message.seen)
    epoch, since = message.epoch, message.since
    records: dict[bytes, bytes] = {}
    for _ in range(MOST_PAGES):
        pull = Pull(message.session, epoch, since, message.seen, NOTHING.flat())
        page = read_page(engine, pull, seen)
        if not isinstance(page, Page):
            break
        records.update(page.records)
        epoch, since = page.epoch, page.next
        if page.claim is not None:
            held = engine.held(message.damaged)
            return Mended(message.session, page.claim, held, list(records.items()))
    return Refused("too-far-behind")
