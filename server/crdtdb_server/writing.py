"""A client's write: carried out on the terms that its headers set, and answered in their terms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import NamedTuple

from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.transaction import (
    Erase,
    Expectation,
    IdempotencyKey,
    Outcome,
    Result,
    Transaction,
    Update,
)
from crdtdb_server.acks import ACKED, Ack, ack_of, held
from crdtdb_server.conditions import entity_tag, expectations
from crdtdb_server.exchange import JSON, Answer, Headers, Request
from crdtdb_server.idempotency import REPLAYED, key_of
from crdtdb_server.pending import Pending
from crdtdb_server.service import Service
from crdtdb_server.session import wait_of

__all__ = ["Terms", "answer_write", "terms_of"]


class Terms(NamedTuple):
    """What the headers of a write ask for."""

    expects: tuple[Expectation, ...]
    ack: Ack | None
    key: IdempotencyKey | None


def terms_of(service: Service, request: Request, name: ObjectName | None) -> Terms:
    """The terms of a write to one object, or (`name` is None) to several. Raises BadHeader."""
    headers = request.headers
    store_id = service.database.engine.state.store_id
    return Terms(expectations(headers, store_id, name), ack_of(headers), key_of(request))


def answer_write(
    service: Service,
    request: Request,
    updates: tuple[Update | Erase, ...],
    shown: Callable[[tuple[Result, ...]], bytes],
    *,
    name: ObjectName | None = None,
    before: Callable[[], None] | None = None,
) -> Awaitable[Answer]:
    """Carry out updates, all or none, and answer with what `shown` makes of their results.

    `name` is the object that all of them are about, if that is one; `before` runs immediately
    before them (`Writer.commit`). Raises why they were refused.
    """
    store_id = service.database.engine.state.store_id
    expects, ack, key = terms_of(service, request, name)
    transaction = Transaction(updates, expects, key, name)
    pending = service.writer.commit(transaction, before=before, body_bytes=len(request.body))

    def answered(outcome: Outcome) -> Answer:
        service.count(transaction, outcome)
        seen = service.seen if outcome.replayed is None else outcome.replayed
        return Answer(shown(outcome.results), seen, 200, JSON, _headers(outcome, store_id))

    if ack is None:
        return pending.then(answered)
    return _acknowledged(service, request, ack, pending, answered)


async def _acknowledged(
    service: Service,
    request: Request,
    ack: Ack,
    pending: Pending[Outcome],
    answered: Callable[[Outcome], Answer],
) -> Answer:
    """The answer to a write, once enough replicas hold it or the time is over."""
    outcome = await pending
    answer = answered(outcome)
    # One bound for all waiting: for what the session has seen, for the commit, and now.
    left_s = wait_of(request.headers) - (perf_counter() - request.began)
    holders = await held(service.witnesses, ack, _written(outcome) or answer.seen, left_s)
    return answer._replace(
        status=200 if ack.is_reached(holders) else 202,
        headers=(*answer.headers, (ACKED, str(ack.counted(holders)))),
    )


def _written(outcome: Outcome) -> VersionVector:
    """The operations that the transaction became; none of a repeated one, or of one in vain."""
    return VersionVector.of(result.stamp.dot for result in outcome.results if result.stamp)


def _headers(outcome: Outcome, store_id: int) -> Headers:
    """What headers say of the outcome."""
    if outcome.replayed is not None:
        return REPLAYED
    return () if outcome.sequence is None else entity_tag(store_id, outcome.sequence)
