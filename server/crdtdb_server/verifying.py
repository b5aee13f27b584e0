"""`/v1/digest/ranges` and `/v1/verify`: is what is here what is there, and what was written?"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from crdtdb import comparing
from crdtdb.address import ObjectName
from crdtdb.comparing import PARTS, Question
from crdtdb.damage import Damage
from crdtdb.engine import Engine
from crdtdb.errors import BadRequest, Field
from crdtdb.opaque import from_opaque, to_opaque
from crdtdb.operations import check_name, refusal
from crdtdb.scrub import Scrub
from crdtdb.store.base import KEY_BYTES
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import AFTER, parameters
from crdtdb_server.service import Service

__all__ = [
    "RANGE_BODY_BYTES",
    "VERIFY_PARAMETERS",
    "RangeQuestion",
    "RangesDocument",
    "VerifyDocument",
    "get_verify",
    "post_ranges",
]

#: An address (`crdtdb.address`), as hexadecimal digits.
_Position = Annotated[str, Meta(pattern="^([0-9a-f]{2})*$", max_length=2 * KEY_BYTES)]
_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
#: Enough for bounds of the greatest length.
RANGE_BODY_BYTES: Final = 4 * 1_048_576
VERIFY_PARAMETERS: Final = parameters(AFTER)
#: Rows that one request looks at.
_ROWS: Final = 10_000


class RangeObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose records to look at, instead of all objects."""

    bucket: str
    type: str
    key: str


class RangeQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range of positions, and where to divide it; or into how many parts, as it suits."""

    start: _Position = ""
    end: _Position = ""
    at: Annotated[list[_Position], Meta(max_length=PARTS)] = []
    parts: Annotated[int, Meta(ge=1, le=PARTS)] = PARTS
    object: RangeObject | None = None


class RangePartDocument(TypedDict):
    """A part, which ends where the next begins, and how many objects or records it holds."""

    start: _Position
    digest: _Digest
    count: int


class RangeEntryDocument(TypedDict):
    """An object, or a record of one, in a range that holds few."""

    position: _Position
    digest: _Digest
    size: int


class RangesDocument(TypedDict):
    """The digests of the parts of a range, which ends at `end`, as of the state of `context`."""

    context: str
    end: _Position
    parts: list[RangePartDocument]
    entries: NotRequired[list[RangeEntryDocument]]


class DamageDocument(TypedDict):
    """A row that is not what was written."""

    kind: str
    where: str
    reason: str


class VerifyDocument(TypedDict):
    """How many rows were looked at, what is wrong with them, and where to go on."""

    rows: int
    damage: list[DamageDocument]
    next: NotRequired[str]


async def post_ranges(service: Service, request: Request) -> Answer:
    """Hash ranges of objects, or of the records of one, to find where two replicas differ.

    Ask both for the same range, then for the part in which they differ. Positions are addresses
    in hexadecimal digits: they mean the same at every replica.
    """
    try:
        given = msgspec.convert(read_json(request), RangeQuestion, strict=True)
    except msgspec.ValidationError as error:
        raise refusal(error) from error
    name = None
    if given.object is not None:
        name = ObjectName(given.object.bucket, given.object.type, given.object.key)
        check_name(name)
    start, end, *at = map(bytes.fromhex, (given.start, given.end, *given.at))
    question = Question(start, end, tuple(at), given.parts, name)
    # The first time it looks at every object, so it must not hold up the event loop.
    found = await asyncio.to_thread(comparing.answer, service.database.engine.digests, question)
    document: RangesDocument = {
        "context": service.sessions.token(found.seen),
        "end": found.end.hex(),
        "parts": [
            {"start": part.start.hex(), "digest": f"{part.digest:032x}", "count": part.held}
            for part in found.parts
        ],
    }
    if found.entries is not None:
        document["entries"] = [
            {"position": one.at.hex(), "digest": f"{one.digest:032x}", "size": one.size}
            for one in found.entries
        ]
    return Answer(dump(document), found.seen)


async def get_verify(service: Service, request: Request) -> Answer:
    """Look at the next rows of the store: is each what was written, and do they agree?"""
    after = AFTER.of(request.query)
    try:
        scrub = Scrub(b"" if after is None else from_opaque(after), thorough=True)
    except ValueError as error:
        raise BadRequest(
            "`after` takes only the `next` of the answer before",
            Field("after", "not a position of a walk"),
        ) from error
    damage = await asyncio.to_thread(_look, service.database.engine, scrub)
    document: VerifyDocument = {
        "rows": scrub.rows,
        "damage": [
            {"kind": one.kind.value, "where": one.where, "reason": one.reason} for one in damage
        ],
    }
    if not scrub.done:
        document["next"] = to_opaque(scrub.position)
    return Answer(dump(document), service.seen)


def _look(engine: Engine, scrub: Scrub) -> list[Damage]:
    with engine.store.snapshot() as snapshot:
        return scrub.step(snapshot, _ROWS)
