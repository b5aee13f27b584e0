"""The network between machines: it loses, doubles, delays and reorders, and it is cut.

A message is a frame from one machine to another, with what its transport says of the sender. An
address is an endpoint, or `~INCARNATION` for whoever asked and cannot be reached otherwise. What
answers a message goes back to who sent that, whoever is at the address that it gives as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final, NamedTuple, get_args

from crdtdb.replication import Send, Sender
from crdtdb.replication.messages import Message
from simulation.scheduler import Scheduler

__all__ = [
    "CALM",
    "Cut",
    "Letter",
    "Network",
    "Weather",
    "bridge",
    "halves",
    "isolated",
    "kind_of",
    "one_way",
    "ring",
]

#: Tag of a message → its name.
_KINDS: Final[dict[int, str]] = {
    kind.__struct_config__.tag: kind.__name__ for kind in get_args(Message)
}
#: Where the tag stands in a frame: behind version, checksum and the byte that begins the array.
_TAG: Final = 10

#: Directed links that carry nothing.
Cut = frozenset[tuple[str, str]]


def kind_of(frame: bytes) -> str:
    """What kind of message is in a frame, without reading all of it."""
    return _KINDS[frame[_TAG]]


class Weather(NamedTuple):
    """How bad the network is while nothing is cut."""

    loss: float
    duplication: float
    #: The usual delay, and how often a message takes much longer.
    delay_ms: tuple[int, int]
    straggling: float
    #: How often a bit of a message flips.
    flips: float = 0


CALM: Final = Weather(loss=0, duplication=0, delay_ms=(1, 40), straggling=0)


class Letter(NamedTuple):
    """One message under way."""

    origin: str
    target: str
    sender: Sender
    frame: bytes
    kind: str
    #: Has a bit of it flipped?
    flipped: bool = False
    #: When it was sent, and to which endpoint; if it is an answer: when that was asked, and where.
    sent_ms: int = 0
    endpoint: str = ""
    is_answer: bool = False
    #: The endpoint that it proves its sender to be at: it was asked there after all before it that
    #: came from there. Empty if it proves nothing.
    via: str = ""


class Network:
    """Carries letters between machines, by their names."""

    def __init__(
        self,
        scheduler: Scheduler,
        random: Random,
        weather: Weather,
        resolve: Callable[[str], str | None],
        deliver: Callable[[Letter], None],
    ) -> None:
        """`resolve` says which machine an address belongs to now."""
        self.weather = weather
        self._scheduler = scheduler
        self._random = random
        self._resolve = resolve
        self._deliver = deliver
        self._cuts: list[Cut] = []
        #: What is being delivered.
        self._arriving: Letter | None = None
        #: When the last answer came that proved something, by who had asked at which endpoint.
        self._proven_ms: dict[tuple[str, str], int] = {}
        #: Links that lose more than the weather says, and how much.
        self.lossy: dict[Cut, float] = {}

    def cut(self, links: Cut) -> None:
        """From now on these links carry nothing."""
        self._cuts.append(links)

    def mend(self, links: Cut) -> None:
        """Take one cut back, if it is still there; links that another cut holds stay down."""
        if links in self._cuts:
            self._cuts.remove(links)

    def mend_all(self) -> None:
        """From now on every link carries."""
        self._cuts.clear()
        self.lossy.clear()

    def is_cut(self, origin: str, target: str) -> bool:
        """Does the link carry nothing now?"""
        return any((origin, target) in cut for cut in self._cuts)

    def send(self, origin: str, sender: Sender, send: Send) -> None:
        """Put a frame on its way, or lose it."""
        asked = self._asked(origin, send.endpoint)
        target = self._resolve(send.endpoint) if asked is None else asked.origin
        if target is None or target == origin or self.is_cut(origin, target):
            return
        weather, random = self.weather, self._random
        copies = 1 + (random.random() < weather.duplication)
        whole = Letter(origin, target, sender, send.frame, kind_of(send.frame))
        if asked is None:
            whole = whole._replace(sent_ms=self._scheduler.now_ms, endpoint=send.endpoint)
        else:
            whole = whole._replace(sent_ms=asked.sent_ms, endpoint=asked.endpoint, is_answer=True)
        loss = max(
            (how for links, how in self.lossy.items() if (origin, target) in links), default=0
        )
        for _ in range(copies):
            if random.random() < max(loss, weather.loss):
                continue
            letter = _flipped(whole, random) if random.random() < weather.flips else whole
            delay_ms = random.randint(*weather.delay_ms)
            if random.random() < weather.straggling:
                delay_ms *= random.randint(2, 20)
            self._scheduler.after(delay_ms, partial(self._arrive, letter))

    def _asked(self, origin: str, endpoint: str) -> Letter | None:
        """The message that is being answered by one that goes to this endpoint."""
        asked = self._arriving
        is_answer = (
            asked is not None
            and not asked.is_answer
            and (asked.target, asked.sender.address) == (origin, endpoint)
        )
        return asked if is_answer else None

    def _arrive(self, letter: Letter) -> None:
        if self.is_cut(letter.origin, letter.target):
            return
        who = letter.target, letter.endpoint
        if letter.is_answer and letter.sent_ms > self._proven_ms.get(who, -1):
            self._proven_ms[who] = self._scheduler.now_ms
            letter = letter._replace(via=letter.endpoint)
        self._arriving = letter
        try:
            self._deliver(letter)
        finally:
            self._arriving = None


def _flipped(letter: Letter, random: Random) -> Letter:
    """The letter with one bit wrong."""
    bits = bytearray(letter.frame)
    bits[random.randrange(len(bits))] ^= 1 << random.randrange(8)
    return letter._replace(frame=bytes(bits), flipped=True)


# -- ways to cut ----------------------------------------------------------------------------------


def halves(names: Sequence[str], random: Random) -> Cut:
    """Two groups that do not hear each other."""
    some = set(random.sample(names, random.randint(1, len(names) - 1)))
    return frozenset((a, b) for a in names for b in names if (a in some) != (b in some))


def isolated(names: Sequence[str], random: Random) -> Cut:
    """One machine alone."""
    alone = random.choice(names)
    return frozenset((a, b) for a in names for b in names if (a == alone) != (b == alone))


def one_way(names: Sequence[str], random: Random) -> Cut:
    """Some machines are heard and hear nothing, or the other way round."""
    some = set(random.sample(names, random.randint(1, len(names) - 1)))
    return frozenset((a, b) for a in names for b in names if a in some and b not in some)


def ring(names: Sequence[str], random: Random) -> Cut:
    """Each machine talks to its two neighbours only."""
    order = random.sample(names, len(names))
    beside = {(a, b) for a, b in zip(order, order[1:] + order[:1], strict=True)}
    return frozenset(
        (a, b) for a in names for b in names if a != b and not beside & {(a, b), (b, a)}
    )


def bridge(names: Sequence[str], random: Random) -> Cut:
    """Two groups that do not hear each other, and one machine that both hear."""
    between = random.choice(names)
    some = {between, *random.sample(names, random.randint(1, len(names) - 1))}
    return frozenset(
        (a, b) for a in names for b in names if between not in (a, b) and (a in some) != (b in some)
    )
