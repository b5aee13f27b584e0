"""The network of one replica: what drives its replication machine.

Every call that may change the machine or the engine goes through the writer, which runs one at a
time. What the machine wants sent goes to the link of its endpoint, or back in the answer of the
exchange that asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from random import Random
from typing import Final

import aiohttp
import structlog

from crdtdb.causal import VersionVector
from crdtdb.errors import Evicted, PeerError, Unavailable
from crdtdb.replication import Replication, Send
from crdtdb.replication.evictions import Stake
from crdtdb.replication.losses import Wait
from crdtdb.replication.messages import Sender
from crdtdb.transaction import Committed
from crdtdb_server.acks import Holders
from crdtdb_server.peers.clock import monotonic_ms
from crdtdb_server.peers.envelope import BODY_BYTES
from crdtdb_server.peers.faults import Faults
from crdtdb_server.peers.link import Link
from crdtdb_server.peers.newer import NewerPeers
from crdtdb_server.peers.trust import Trust
from crdtdb_server.signals import Signal
from crdtdb_server.writer import Writer

__all__ = ["Network"]

_log = structlog.get_logger("crdtdb.peers")

_TICK_S: Final = 0.1
#: A tick that failed as a whole is tried again after this, doubled each time up to …
_FAILED_FIRST_S, _FAILED_MOST_S = 0.1, 10.0
#: What stands for the tick among the chores that fail.
_TICK: Final = "tick"
#: More than this is taken in by the commit thread, so that reads go on.
_HEAVY_BYTES: Final = 65_536
#: How long the first write may wait for the members to confirm this replica's identity.
_SETTLE_MS: Final = 500
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=2)


class Network:
    """Links to all endpoints, and the machine between them."""

    def __init__(
        self,
        replication: Replication,
        writer: Writer,
        random: Random,
        trust: Trust,
    ) -> None:
        """`trust` says by what other replicas are known."""
        self.replication = replication
        self.faults = Faults(random)
        #: Bytes of bodies sent to peers since the start.
        self.bytes_sent = 0
        self.newer = NewerPeers()
        #: What was refused before the machine saw it, by reason.
        self.refusals: Counter[str] = Counter()
        #: Failures by a bug of this program, by the chore of replication that failed.
        self.failures: Counter[str] = Counter()
        replication.chores.on_failure = self._note_failure
        #: Did the last tick fail as a whole?
        self._tick_failed = False
        self._writer = writer
        self._random = random
        self.trust = trust
        self._links: dict[str, Link] = {}
        self._session: aiohttp.ClientSession | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._giving_up: asyncio.Task[None] | None = None
        self._reports = Signal()
        self._closed = False
        self._was_evicted = False
        #: What the log has said of members of one name.
        self._namesakes: dict[str, str] = {}
        writer.hold()

    async def start(self) -> None:
        """Take up the conversation; the listening socket is open already."""
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        self._dispatch(await self._writer.call(lambda: self.replication.start(monotonic_ms())))
        self._note_eviction()
        self._started.set()
        self._ticking = asyncio.create_task(self._tick(), name="replication tick")

    async def close(self) -> None:
        """Leave the conversation."""
        self._closed = True
        self._reports.give()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in self._links.values()))
        if self._session is not None:
            await self._session.close()

    @property
    def links(self) -> dict[str, Link]:
        """The links in use, by endpoint."""
        return self._links

    # -- what links and the HTTP front call -------------------------------------------------------

    @property
    def me(self) -> Sender:
        return self.replication.me

    def probe(self) -> bytes:
        return self.replication.probe()

    async def deliver(self, sender: Sender, frames: list[bytes], via: str = "") -> list[bytes]:
        """Take in the frames of one exchange, begun by the peer or at the endpoint `via`.

        Returns what goes back on the same way. Raises PeerError if a frame is refused.
        """
        await self._started.wait()
        heavy = sum(map(len, frames)) > _HEAVY_BYTES or any(map(self.replication.is_heavy, frames))

        def take_in() -> list[Send]:
            now_ms = monotonic_ms()
            sends: list[Send] = []
            size = 0
            for frame in frames:
                called_for = self.replication.step(sender, frame, now_ms, via)
                sends += called_for
                size += sum(len(send.frame) for send in called_for)
                if size > BODY_BYTES:
                    self.refusals["too-large"] += 1
                    raise PeerError("too-large", f"frames call for more than {BODY_BYTES} bytes")
            return sends

        try:
            sends = await self._writer.call(take_in, in_thread=heavy)
        except PeerError as error:
            self.newer.note(sender, error, monotonic_ms())
            raise
        self._reports.give()
        self._note_eviction()
        back = via or sender.address
        answers = [send.frame for send in sends if send.endpoint == back]
        self._dispatch([send for send in sends if send.endpoint != back])
        return answers

    def is_self(self, endpoint: str) -> None:
        """An endpoint turned out to be this replica."""
        _log.warning("peer is this replica itself; leave it out", endpoint=endpoint)
        self.replication.forget(endpoint)

    def lost(self, endpoint: str) -> None:
        """Frames for an endpoint were lost: a pull from there must not wait for an answer."""
        if self.replication.pulls_from == endpoint and self._giving_up is None:
            self._giving_up = asyncio.create_task(self._give_up(endpoint), name="give up a pull")

    async def _give_up(self, endpoint: str) -> None:
        try:
            sends = await self._writer.call(lambda: self.replication.unreachable(endpoint))
        finally:
            self._giving_up = None
        self._dispatch(sends)

    async def receive(self, sender: Sender, frames: list[bytes]) -> list[bytes]:
        """The same for an exchange that a peer began, over a link that may be faulty.

        Raises LinkDown or PeerError.
        """
        await self.faults.cross(sender.name, "in")
        if (link := self._links.get(sender.endpoint)) and link.trouble is not None:
            link.retry()
        answers = await self.deliver(sender, frames)
        await self.faults.cross(sender.name, "out")
        return answers

    def committed(self, committed: Committed) -> None:
        """Push a durable local commit. Runs on the event loop, right after it."""
        if committed.push is not None:
            self._dispatch(self.replication.committed(committed.push))

    @property
    def failing(self) -> list[str]:
        """The chores of replication that failed when they were tried last, by a bug."""
        return [*self.replication.chores.failing, *([_TICK] if self._tick_failed else [])]

    def known(self) -> list[str]:
        """The names of the other replicas that are members, or were heard."""
        replication = self.replication
        names = {member.name for member in replication.members.values()}
        names.update(peer.sender.name for peer in replication.peers.values())
        return sorted(names - {self.me.name})

    # -- membership -------------------------------------------------------------------------------

    async def knock(self, endpoint: str) -> None:
        """Make the acquaintance of a replica that shall become a member."""
        if self.trust.certified is not None:
            self.trust.certified.name(endpoint)
        self._dispatch(await self._writer.call(lambda: self.replication.knock(endpoint)))

    async def stake(self, name: str) -> Stake:
        """What the eviction of all members of a name would change."""
        return await self._writer.call(lambda: self.replication.stake(name))

    async def evict(self, name: str) -> None:
        """Take all members of a name out of the cluster; durable here when this returns."""
        self._dispatch(await self._writer.call(lambda: self.replication.evict(name)))

    async def rejoin(self) -> None:
        """Go on as a new member after an eviction."""
        self._dispatch(await self._writer.call(self.replication.rejoin))
        self._note_eviction()

    # -- damage -----------------------------------------------------------------------------------

    async def damage(self, owner: bytes | None = None) -> list[Wait]:
        """What waits to be mended; of one object, after all of it was looked at now."""
        losses = self.replication.losses

        def look() -> list[Wait]:
            if owner is None:
                return losses.waiting()
            losses.look(owner)
            return losses.waiting({owner})

        return await self._writer.call(look, in_thread=True)

    async def accept_losses(self, owners: Collection[bytes]) -> None:
        """Accept the loss of what is damaged of these objects; durable here when this returns."""
        accept = self.replication.losses.accept
        self._dispatch(await self._writer.call(lambda: accept(owners), in_thread=True))

    def _note_eviction(self) -> None:
        """This replica may have been told that it is out, or have been taken back."""
        is_evicted = self.replication.is_evicted
        if is_evicted == self._was_evicted:
            return
        self._was_evicted = is_evicted
        if is_evicted:
            _log.error("evicted: writes are refused", replica=self.me.name)
            self._writer.refuse(
                Evicted(
                    f"an operator evicted {self.me.name!r} from the cluster; write to another "
                    "replica, or take this one back: crdtdb cluster rejoin"
                )
            )
        else:
            _log.info("rejoins the cluster", replica=self.me.name)
            self._writer.accept()

    def _note_namesakes(self) -> None:
        """Say of members of one name that they are; once, until they are others."""
        namesakes = self.replication.namesakes()
        for endpoint in namesakes.keys() - self._namesakes.keys():
            if namesakes[endpoint] not in self._namesakes.values():
                _log.error("two replicas with one name", why=namesakes[endpoint])
                self._namesakes |= namesakes
        self._namesakes = namesakes

    # -- who holds what --------------------------------------------------------------------------

    def holders(self, write: VersionVector) -> Holders:
        """Who is known to hold a write: its replica said so, after its own commit."""
        replication = self.replication
        own = replication.incarnation
        regions = {replication.me.region}
        replicas = 1
        for incarnation, member in replication.members.items():
            peer = replication.peers.get(incarnation)
            if incarnation != own and peer is not None and peer.seen.includes(write):
                replicas += 1
                regions.add(member.region)
        return Holders(replicas, len(regions), len(replication.members.keys() | {own}))

    async def next_report(self) -> bool:
        """Wait for the next exchange with a peer; False once the conversation is over."""
        if not self._closed:
            await self._reports.next()
        return not self._closed

    # -- time and sending -------------------------------------------------------------------------

    async def _tick(self) -> None:
        started_ms = monotonic_ms()
        failed_s = _FAILED_FIRST_S
        while True:
            is_joining = self.replication.is_joining
            pause_s = 0.0 if is_joining else _TICK_S
            try:
                self._dispatch(
                    await self._writer.call(
                        lambda: self.replication.tick(monotonic_ms()), in_thread=is_joining
                    )
                )
                self._note_namesakes()
                if self._writer.held and not self.replication.is_evicted:
                    await self._open_when_settled(monotonic_ms() - started_ms)
                self._tick_failed, failed_s = False, _FAILED_FIRST_S
            except Unavailable:  # too much waits to be written, or the disk takes nothing
                self.refusals["tick-failed"] += 1
            except Exception as error:
                self._tick_failed = True
                self._note_failure(_TICK, error)
                pause_s, failed_s = failed_s, min(2 * failed_s, _FAILED_MOST_S)
            # What is being joined goes on at once; who waits for the writer is let in between.
            await asyncio.sleep(pause_s)

    def _note_failure(self, chore: str, error: Exception) -> None:
        self.failures[chore] += 1
        _log.error("a bug in replication; it is tried again", chore=chore, exc_info=error)

    async def _open_when_settled(self, since_start_ms: int) -> None:
        """Let writes begin: the identity is proven, or somebody cannot wait for that."""
        if not self.replication.settled:
            if not self._writer.held_transactions or since_start_ms < _SETTLE_MS:
                return
            if self.replication.listens:
                return  # not for long, and nobody can be asked
            self._dispatch(await self._writer.call(self.replication.before_write))
        self._writer.open()

    def _dispatch(self, sends: list[Send]) -> None:
        for endpoint, frame in sends:
            if endpoint.startswith("~"):
                continue  # it can only be answered, and nobody there is asking now
            link = self._links.get(endpoint)
            if link is None:
                assert self._session is not None, "sent before the start"
                link = self._links[endpoint] = Link(
                    endpoint,
                    self,
                    self._session,
                    self.faults,
                    self._random,
                    self._count_bytes,
                    self.trust,
                )
            link.send(frame)

    def _count_bytes(self, body_bytes: int) -> None:
        self.bytes_sent += body_bytes
