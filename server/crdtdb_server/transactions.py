"""Several objects at once: reads of one snapshot, then updates that take effect together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.database import Database
from crdtdb.errors import BadRequest, Field, Problem, shortened
from crdtdb.operations import check_name, too_many
from crdtdb.reading import Reading
from crdtdb.transaction import Result, Update
from crdtdb_server.access import Access, Principal
from crdtdb_server.bounds import Bounds
from crdtdb_server.data import object_document, result_document
from crdtdb_server.documents import array, dump, read_json
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import check_document
from crdtdb_server.parts import PART_PARAMETERS, Part, part_of
from crdtdb_server.service import Service
from crdtdb_server.writing import answer_write

__all__ = ["post_transaction"]


class _Reads:
    """The reads of a transaction: carried out once, in one snapshot."""

    def __init__(self, service: Service, wanted: list[tuple[ObjectName, Part]]) -> None:
        self._service = service
        self._wanted = wanted
        self.text = b"[]"
        self.seen = NOTHING

    async def prepare(self) -> None:
        """Rank what is read by score or rank. It can take a while, so a thread does it."""
        for i, (name, part) in enumerate(self._wanted):
            if part.is_ranked(name.type) and not self._service.database.is_ranked(name):
                try:
                    await asyncio.to_thread(self._service.database.rank, name)
                except Problem as error:
                    raise error.below(f"reads[{i}]") from error

    def carry_out(self) -> None:
        with self._service.database.reading() as reading:
            self.text = array(self._shown(reading), "reads")
            self.seen = reading.seen

    def _shown(self, reading: Reading) -> Iterator[dict[str, Any]]:
        for i, (name, part) in enumerate(self._wanted):
            try:
                yield object_document(self._service, reading, name, part)
            except Problem as error:
                raise error.below(f"reads[{i}]") from error


async def post_transaction(service: Service, request: Request) -> Answer:
    """Read objects in one snapshot, then change objects in one atomic commit.

    Repeated under its Idempotency-Key, the updates' first answer comes again. Reads are not kept:
    done afresh, they would show the state after the updates as if it were the one before them. So
    reads and updates with a key are refused.
    """
    document = read_json(request)
    if isinstance(document, dict) and document.get("updates"):
        service.writer.check_room()
    wanted, updates = _parsed(service.database, service.options.bounds, document)
    _check_rights(request.principal, wanted, updates)
    reads = _Reads(service, wanted)
    await reads.prepare()
    if not updates:
        reads.carry_out()
        return Answer(b'{"reads":%b,"results":[]}' % reads.text, reads.seen)
    if wanted and "idempotency-key" in request.headers:
        raise BadRequest(
            "an Idempotency-Key keeps what updates answered, not what was read before them; send "
            "the reads in a request of their own",
            Field("reads", "not together with updates and an Idempotency-Key"),
        )

    def shown(results: tuple[Result, ...]) -> bytes:
        done = [
            result_document(update.name.type, result)
            for update, result in zip(updates, results, strict=True)
        ]
        return b'{"reads":%b,"results":%b}' % (reads.text, dump(done))

    before = reads.carry_out if wanted else None
    return await answer_write(service, request, updates, shown, before=before)


def _check_rights(
    principal: Principal, wanted: Sequence[tuple[ObjectName, Part]], updates: Sequence[Update]
) -> None:
    """Raises Forbidden, naming the part that the caller may not touch."""
    if updates:
        principal.check_scope(Access.WRITE)
    for i, (name, _) in enumerate(wanted):
        principal.check_bucket(name.bucket, f"reads[{i}].bucket")
    for i, update in enumerate(updates):
        principal.check_bucket(update.name.bucket, f"updates[{i}].bucket")


def _parsed(
    database: Database, bounds: Bounds, document: Any
) -> tuple[list[tuple[ObjectName, Part]], tuple[Update, ...]]:
    """The reads and updates of a request, checked. Raises problems that name the field."""
    if not isinstance(document, dict):
        raise BadRequest(
            'a transaction is an object: {"reads": […], "updates": […]}',
            Field("", "not an object"),
        )
    for name in document:
        if name not in ("reads", "updates"):
            raise BadRequest(
                f"a transaction has no field {shortened(name)!r}; it has reads and updates",
                Field(shortened(name), "unknown field"),
            )
    reads = _list(document, "reads")
    updates = _list(document, "updates")
    if not 1 <= len(reads) + len(updates) <= bounds.transaction_operations:
        raise too_many(len(reads) + len(updates), bounds.transaction_operations)
    return (
        [_read(entry, f"reads[{i}]", bounds) for i, entry in enumerate(reads)],
        tuple(_update(database, entry, f"updates[{i}]") for i, entry in enumerate(updates)),
    )


def _list(document: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = document.get(name, [])
    if not isinstance(value, list):
        raise BadRequest(f"`{name}` is a list", Field(name, "not a list"))
    return value


def _read(entry: Any, field: str, bounds: Bounds) -> tuple[ObjectName, Part]:
    name, rest = _addressed(entry, field)
    part = part_of(name.type, check_document(rest, PART_PARAMETERS, field), field)
    if part.query.limit > bounds.page_items:
        part = part._replace(query=part.query._replace(limit=bounds.page_items))
    return name, part


def _update(database: Database, entry: Any, field: str) -> Update:
    name, rest = _addressed(entry, field)
    return database.parse_update(name, rest, field)


def _addressed(entry: Any, field: str) -> tuple[ObjectName, dict[str, Any]]:
    """The object that an entry names, and what else the entry holds."""
    if not isinstance(entry, dict):
        raise BadRequest(
            f"{field} is an object with bucket, type and key", Field(field, "no object")
        )
    parts: list[str] = []
    for part in ObjectName._fields:
        value = entry.get(part)
        if not isinstance(value, str):
            raise BadRequest(
                f"{field} needs `{part}`, a string",
                Field(f"{field}.{part}", "missing or not a string"),
            )
        parts.append(value)
    name = ObjectName(*parts)
    try:
        check_name(name)
    except Problem as error:
        raise error.below(field) from error
    return name, {key: value for key, value in entry.items() if key not in ObjectName._fields}
