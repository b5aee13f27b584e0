"""What replicas say to each other, and the frames it travels in.

A frame is version 1 | xxh3-64 of the body | msgpack of one tagged message. Records inside are the
very bytes that are stored. `tests/wire/messages.jsonl` freezes all of it. Who sends a frame is not
in it: the transport says so once per exchange (`Sender`), which keeps an idle digest small. Version
vectors in pushes, summaries, pulls and claims may rest on floors (`crdtdb.floors`); those of news,
pulls and the claims of pages may be told against a base (`crdtdb.replication.bases`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Final, TypeAlias

import msgspec

from crdtdb import codec
from crdtdb.causal import VersionVector, format_incarnation
from crdtdb.errors import PeerError
from crdtdb.floors import Floors, UnknownFloor, read_floored

__all__ = [
    "Acquainted",
    "Claim",
    "Copied",
    "Copy",
    "Digest",
    "Evicted",
    "Gone",
    "Hello",
    "Mend",
    "Mended",
    "Message",
    "News",
    "Page",
    "Pull",
    "Push",
    "Received",
    "Refused",
    "Remembered",
    "Same",
    "Sender",
    "Summary",
    "Talk",
    "Welcome",
    "read_frame",
    "read_sender",
    "read_vector",
    "write_frame",
    "write_sender",
]

_VERSION: Final = 1
#: What the stems of a page's addresses come to at most.
_UNSTEMMED_BYTES: Final = 2**26
_NO_FLOORS: Final[Floors] = MappingProxyType({})
#: What a list of lags begins with; no incarnation and no floor's mark is negative.
_LAGS: Final = -1

_Incarnation: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
#: Of operations or of places in a sequence.
_Counter: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all messages."""


class Sender(_Message, frozen=True):
    """Who speaks. `endpoint` is where it can be reached; empty if only answers reach it."""

    cluster: str
    incarnation: _Incarnation
    name: str
    region: str
    endpoint: str
    fresh: bool

    @property
    def address(self) -> str:
        """Where an answer goes."""
        return self.endpoint or f"~{format_incarnation(self.incarnation)}"


class Hello(_Message, tag=1, frozen=True):
    """I have just started; do you know operations of mine that I do not?"""

    #: The counter of my latest operation.
    own: _Counter


class Welcome(_Message, tag=2, frozen=True):
    """The answer to Hello: the latest counter of yours that I have seen."""

    known: _Counter


class Digest(_Message, tag=3, frozen=True):
    """In a few bytes: have we seen the same? Fingerprints of the VV and of the reports."""

    seen: int
    reports: int
    time: int


class Same(_Message, tag=4, frozen=True):
    """Yes (to the Digest with that fingerprint); my sequence stands here."""

    seen: int
    time: int
    epoch: int
    sequence: _Counter


class Summary(_Message, tag=5, frozen=True):
    """No: this is what I have seen, and what members last reported to have seen.

    In a frame, a report that is part of `seen` is told by how far it lags behind, entry by entry:
    reports are as many as members, and each names as many.
    """

    seen: list[int]
    time: int
    reports: dict[int, list[int]]
    #: Do I want yours in return?
    answer: bool

    def lagging(self) -> Summary:
        """The same as it is in a frame. O(members × entries)."""
        reports = {member: _lagging(report, self.seen) for member, report in self.reports.items()}
        return msgspec.structs.replace(self, reports=reports)

    def unlagging(self) -> Summary:
        """The same with whole reports. Raises PeerError."""
        reports = {member: _unlagging(told, self.seen) for member, told in self.reports.items()}
        return msgspec.structs.replace(self, reports=reports)


class Pull(_Message, tag=6, frozen=True):
    """Send what is in your sequence after `since` and not covered by `seen`, page by page.

    `epoch` names the past in which the donor gave that place out (`crdtdb.epochs`).
    `seen` stays what it was when the session began: a record that changes between two pages must
    come again even if the change reached me otherwise meanwhile.

    With `whole`, which is what the donor said by Gone, everything is to be sent, whatever was seen:
    what it does not send then is removed here, as far as it has seen it.
    """

    session: int
    epoch: int
    since: _Counter
    seen: list[int]
    whole: list[int]


class Claim(_Message, frozen=True):
    """After these pages you have everything I have seen."""

    seen: list[int]
    time: int


class Page(_Message, tag=7, frozen=True):
    """Some records; at the head of the sequence with a claim. Echoes the request.

    `head` is the last place of the donor's sequence: how far there is to go. In a frame, what all
    addresses begin with is said once, in `stem`.
    """

    session: int
    since: _Counter
    epoch: int
    next: _Counter
    records: list[tuple[bytes, bytes]]
    claim: Claim | None
    head: _Counter = 0
    stem: bytes = b""

    def stemmed(self) -> Page:
        """The same as it is in a frame."""
        addresses = [at for at, _ in self.records] or [b""]
        first, last = min(addresses), max(addresses)
        apart = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
        stem = first[: next(apart, len(first))]
        records = [(at[len(stem) :], data) for at, data in self.records]
        return msgspec.structs.replace(self, records=records, stem=stem)

    def unstemmed(self) -> Page:
        """The same with whole addresses. Raises PeerError for a small page that would be huge."""
        stem = self.stem
        if not stem:
            return self
        if len(stem) * len(self.records) > _UNSTEMMED_BYTES:
            raise PeerError("bad-frame", "the addresses of a page are too long")
        records = [(stem + at, data) for at, data in self.records]
        return msgspec.structs.replace(self, records=records, stem=b"")


class Push(_Message, tag=8, frozen=True):
    """What one commit changed (`crdtdb.transaction.Push`)."""

    origin: _Incarnation
    first: _Counter
    last: _Counter
    deps: list[int]
    time: int
    records: list[tuple[bytes, bytes]]


class Received(_Message, tag=9, frozen=True):
    """The answer to a push: so much of this origin is durable here."""

    origin: _Incarnation
    counter: _Counter


class Refused(_Message, tag=10, frozen=True):
    """I cannot serve that (now): `bootstrapping`, `damaged`, `evicted`, `rejoining`, …"""

    reason: str


class Gone(_Message, tag=11, frozen=True):
    """The answer to Pull and Copy: deletes that you have not seen are reclaimed here. Begin anew.

    The VV covers all of them. If you have seen that, what you have read was put back since.
    """

    session: int
    reclaimed: list[int]


class Evicted(_Message, tag=12, frozen=True):
    """The answer to everything that comes from this incarnation: it was evicted, and is fenced."""

    incarnation: _Incarnation


class Remembered(_Message, tag=13, frozen=True):
    """The answer to Hello of somebody that is counted on: what it reported to have seen, too."""

    #: As in Welcome.
    known: _Counter
    reported: list[int]


class Acquainted(_Message, tag=15, frozen=True):
    """The answer to Hello of somebody who may not have heard of all members: ask these, too."""

    #: As in Remembered; empty: nothing.
    known: _Counter
    reported: list[int]
    #: Their incarnations.
    members: list[_Incarnation]


class News(_Message, tag=14, frozen=True):
    """This is what I have seen: there is news in it, or the answer to yours.

    As a Summary without reports, told against what both sides have.
    """

    seen: list[int]
    #: Of questions; 0 in answers.
    time: int
    #: Do I want yours in return?
    answer: bool


class Mend(_Message, tag=20, frozen=True):
    """My records at these addresses are damaged. Send what you hold there, unfiltered.

    And everything that I lack, as in a Pull: it takes effect together.
    """

    session: int
    epoch: int
    since: _Counter
    seen: list[int]
    damaged: list[bytes]


class Mended(_Message, tag=21, frozen=True):
    """The answer to Mend, of one state.

    `held` are the records there (of an op-based object all), `records` all that was missing.
    """

    session: int
    claim: Claim
    held: list[tuple[bytes, bytes]]
    records: list[tuple[bytes, bytes]]


class Copy(_Message, tag=22, frozen=True):
    """I hold nothing. Send the rows of your records, in the order of their addresses, after this.

    With `whole`, which is what the donor said by Gone.
    """

    session: int
    after: bytes
    whole: list[int]


class Copied(_Message, tag=23, frozen=True):
    """Some rows, as they are stored. Echoes the request.

    What changes in this sequence after `place` while the copy is taken is to be pulled, when
    `is_last` says that these were all. `total` is how many rows there are.
    """

    session: int
    after: bytes
    epoch: int
    place: _Counter
    rows: list[tuple[bytes, bytes]]
    is_last: bool
    total: _Counter


#: What members say to each other.
Talk: TypeAlias = (
    Hello
    | Welcome
    | Remembered
    | Acquainted
    | Digest
    | Same
    | Summary
    | News
    | Pull
    | Page
    | Push
    | Received
    | Refused
    | Gone
    | Mend
    | Mended
    | Copy
    | Copied
)
Message: TypeAlias = Talk | Evicted

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_sender_decoder = msgspec.msgpack.Decoder(Sender)


def write_frame(message: Message) -> bytes:
    """The frame of a message."""
    match message:
        case Page():
            message = message.stemmed()
        case Summary(reports=reports) if reports:
            message = message.lagging()
    return codec.pack_whole(_VERSION, message)


def read_frame(frame: bytes) -> Message:
    """The message in a frame. Raises PeerError."""
    try:
        message: Message = codec.unpack_whole(_VERSION, frame, _decoder)
    except codec.NewerVersion as error:
        raise PeerError("newer-version", f"a frame of a newer crdtdb: {error}") from error
    except codec.FormatError as error:
        raise PeerError("bad-frame", f"a frame cannot be read: {error}") from error
    match message:
        case Page():
            return message.unstemmed()
        case Summary(reports=reports) if reports:
            return message.unlagging()
        case _:
            return message


def _lagging(report: list[int], seen: list[int]) -> list[int]:
    """A report as what it lacks of `seen`, if it is part of that and this is shorter."""
    rest = len(seen) % 2
    if report[:rest] != seen[:rest] or len(report) % 2 != rest:
        return report  # on another floor
    left = dict(zip(report[rest::2], report[rest + 1 :: 2], strict=True))
    lags = [
        counter - left.pop(incarnation, 0)
        for incarnation, counter in zip(seen[rest::2], seen[rest + 1 :: 2], strict=True)
    ]
    if left or min(lags, default=0) < 0:
        return report
    told = [_LAGS, *lags]
    return told if len(codec.pack(told)) < len(codec.pack(report)) else report


def _unlagging(told: list[int], seen: list[int]) -> list[int]:
    """The inverse of `_lagging`. Raises PeerError."""
    if told[:1] != [_LAGS]:
        return told
    rest = len(seen) % 2
    incarnations, counters, lags = seen[rest::2], seen[rest + 1 :: 2], told[1:]
    if len(lags) != len(counters) or any(
        not 0 <= lag <= counter for lag, counter in zip(lags, counters, strict=True)
    ):
        raise PeerError("bad-vector", "a report lags behind what its teller has not seen")
    report = seen[:rest]
    for incarnation, counter, lag in zip(incarnations, counters, lags, strict=True):
        if counter > lag:
            report += (incarnation, counter - lag)
    return report


def read_vector(flat: list[int], floors: Floors = _NO_FLOORS) -> VersionVector:
    """A version vector from a peer, which may rest on one of these floors. Raises PeerError."""
    try:
        return read_floored(flat, floors)
    except UnknownFloor as error:
        raise PeerError("unknown-floor", str(error)) from error
    except ValueError as error:
        raise PeerError("bad-vector", str(error)) from error


def write_sender(sender: Sender) -> bytes:
    """Who speaks, for the transport to carry."""
    return codec.pack(sender)


def read_sender(data: bytes) -> Sender:
    """The inverse of `write_sender`. Raises PeerError."""
    try:
        return _sender_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerError("bad-frame", f"the sender cannot be read: {error}") from error
