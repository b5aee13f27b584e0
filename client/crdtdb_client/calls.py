"""What each method of a client asks, and how it reads the answer. Nothing here acts.

This is about data; what is asked about the replica itself is in `operating`.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from crdtdb import jsonvalue
from crdtdb.address import ObjectName
from crdtdb.answers import (
    LEFT_OUT,
    Conflict,
    Enrolled,
    Event,
    FieldRead,
    Given,
    Imported,
    Lost,
    Order,
    Plain,
    Read,
    Standing,
    Written,
    WrongLine,
)
from crdtdb.exporting import line_of
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.operations import is_repeatable
from crdtdb.query import check_is_document, check_order
from crdtdb.writes import Updates
from crdtdb_client.exchange import Answer, Request
from crdtdb_client.targets import path, path_to

__all__ = [
    "Call",
    "ChangePage",
    "Collected",
    "Page",
    "Scope",
    "body_of",
    "buckets",
    "change_page",
    "conflicts",
    "contains",
    "explain",
    "export_page",
    "field",
    "import_portion",
    "objects",
    "present",
    "read",
    "read_together",
    "standing",
    "transaction",
    "types",
    "update",
]

T = TypeVar("T")

#: How long a replica holds back the answer when nothing has changed, in seconds.
_FOLLOW_S = 20


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how to read its answer."""

    request: Request
    read: Callable[[Answer], T]


class Page(NamedTuple, Generic[T]):
    """Part of a listing, and where the next part begins."""

    items: list[T]
    next: str | None


# -- objects --------------------------------------------------------------------------------------


def read(
    name: ObjectName,
    *,
    limit: int,
    after: str | None,
    from_: Given,
    to: Given,
    reverse: bool,
    order: Order,
    prefix: Sequence[str] | None,
) -> Call[Read[Any]]:
    target = path_to(
        name,
        limit=None if limit == LIMITS.page_items_default else limit,
        after=after,
        reverse="true" if reverse else None,
        order=None if order == "member" else order,
        prefix=None if prefix is None else _json_text(list(prefix)),
        **{"from": _json_text(from_), "to": _json_text(to)},
    )
    return Call(Request("GET", target), lambda answer: _read(answer.document, answer.replica))


def read_together(names: Sequence[ObjectName]) -> Call[list[Read[Any]]]:
    body = body_of({"reads": [name._asdict() for name in names]})
    return Call(
        Request("POST", path("transactions"), body),
        lambda answer: [_read(one, answer.replica) for one in answer.document["reads"]],
    )


def contains(name: ObjectName, value: JsonValue) -> Call[bool]:
    target = path_to(name, member=_json_text(value))
    return Call(Request("GET", target), lambda answer: _is_member(answer.document["value"]))


def _is_member(value: Any) -> bool:
    """A score is one, also that of 0."""
    return value is not None and value is not False


def difference(name: ObjectName, since: bytes) -> Call[bytes]:
    check_is_document(name.type, "format")
    state = b2a_base64(since, newline=False).decode() if since else None
    target = path_to(name, format="yjs", since=state)
    return Call(Request("GET", target), lambda answer: a2b_base64(answer.document["value"]))


def enrol(name: ObjectName, since: bytes) -> Call[Enrolled]:
    return Call(difference(name, since).request, lambda answer: _enrolled(answer.document))


def _enrolled(shown: dict[str, Any]) -> Enrolled:
    return Enrolled(shown["client"], a2b_base64(shown["value"]))


def standing(name: ObjectName, member: JsonValue) -> Call[Standing | None]:
    check_order(name.type, "rank", "member")
    target = path_to(name, member=_json_text(member))
    return Call(Request("GET", target), lambda answer: _standing(answer.document))


def _standing(shown: dict[str, Any]) -> Standing | None:
    return None if shown["value"] is None else Standing(shown["value"], shown["rank"])


def field(name: ObjectName, path: Sequence[str]) -> Call[FieldRead]:
    target = path_to(name, field=_json_text(list(path)))
    return Call(Request("GET", target), lambda answer: _field(answer.document))


def _field(shown: dict[str, Any]) -> FieldRead:
    return FieldRead(
        tuple(shown["field"]),
        shown["type"],
        shown["value"],
        shown.get("others", {}),
        shown["seen"],
    )


def explain(name: ObjectName, member: Given, field: Sequence[str] | None) -> Call[dict[str, Any]]:
    at = None if field is None else _json_text(list(field))
    target = path_to(name, explain="true", member=_json_text(member), field=at)
    return Call(Request("GET", target), lambda answer: dict(answer.document["explain"]))


def update(name: ObjectName, operations: list[Plain]) -> Call[Written]:
    body = body_of(operations[0] if len(operations) == 1 else operations)
    repeatable = all(is_repeatable(name.type, plain) for plain in operations)
    return Call(
        Request("POST", path_to(name), body, writes=True, repeatable=repeatable),
        lambda answer: _written(answer.document, answer),
    )


class Collected(Updates[None]):
    """The writes of a transaction that is still being put together."""

    def __init__(self) -> None:
        self.updates: list[Plain] = []
        #: What each of them did, in order, once the block has ended.
        self.results: list[Written] = []

    def _send(self, name: ObjectName, operations: list[Plain]) -> None:
        self.updates += [{**name._asdict(), **plain} for plain in operations]


def transaction(updates: list[Plain]) -> Call[list[Written]]:
    names = frozenset(ObjectName._fields)
    repeatable = all(
        is_repeatable(one["type"], {field: one[field] for field in one.keys() - names})
        for one in updates
    )
    body = body_of({"updates": updates})
    return Call(
        Request("POST", path("transactions"), body, writes=True, repeatable=repeatable),
        lambda answer: [_written(one, answer) for one in answer.document["results"]],
    )


def _read(shown: dict[str, Any], replica: str) -> Read[Any]:
    return Read(
        shown["value"],
        shown["exists"],
        shown.get("seen"),
        replica,
        size=shown.get("size"),
        next=shown.get("next"),
        also=tuple(shown.get("also", ())),
        expires_at_ms=shown.get("expires_at_ms"),
    )


def _written(done: dict[str, Any], answer: Answer) -> Written:
    return Written(done["changed"], done.get("value"), done.get("size"), answer.acked)


def body_of(document: object) -> bytes:
    """A document as the body of a request. Raises BadRequest for what is not JSON."""
    return jsonvalue.dump(jsonvalue.checked(document))


def _json_text(value: Given) -> str | None:
    """A value as it stands in a query. Raises BadRequest for what is not JSON."""
    return None if value is LEFT_OUT else body_of(value).decode()


# -- what there is, and what changes --------------------------------------------------------------


def buckets(after: str | None) -> Call[Page[str]]:
    return Call(
        Request("GET", path("buckets", after=after)),
        lambda answer: Page(answer.document["buckets"], answer.document.get("next")),
    )


def types(bucket: str) -> Call[list[str]]:
    return Call(
        Request("GET", path("buckets", bucket)), lambda answer: list(answer.document["types"])
    )


def objects(
    bucket: str, type_name: str, prefix: str, after: str | None
) -> Call[Page[tuple[ObjectName, Read[Any]]]]:
    target = path("buckets", bucket, type_name, prefix=prefix, values="true", after=after)

    def listed(answer: Answer) -> Page[tuple[ObjectName, Read[Any]]]:
        found = [
            (ObjectName(bucket, type_name, shown["key"]), _read(shown, answer.replica))
            for shown in answer.document["objects"]
        ]
        return Page(found, answer.document.get("next"))

    return Call(Request("GET", target), listed)


class Scope(NamedTuple):
    """Which changes a reader wants; None: any."""

    bucket: str | None
    type: str | None
    key: str | None
    include_value: bool


class ChangePage(NamedTuple):
    """Some changes, where to go on, and whether there are more by now."""

    events: list[Event]
    cursor: str
    more: bool


def change_page(scope: Scope, since: str | None, *, wait: bool) -> Call[ChangePage]:
    """The changes after a cursor. Where there are none yet, the replica may wait for some.

    It does not wait for those after `now`: were that answer lost, and `now` asked for again, what
    changed between the two would be lost with it.

    Who waits may do so at a replica that is behind the session: the cursor sees to it that nothing
    is left out, and what the replica lacks is shown when it comes.
    """
    waits = wait and since != "now"
    target = path(
        "changes",
        since=since,
        bucket=scope.bucket,
        type=scope.type,
        key=scope.key,
        include="value" if scope.include_value else None,
        limit=LIMITS.page_items,
        feed="longpoll" if waits else None,
        timeout=_FOLLOW_S if waits else None,
    )
    request = Request("GET", target, in_session=not waits, wait_s=_FOLLOW_S if waits else 0.0)
    return Call(request, lambda answer: _change_page(answer.document))


def present() -> Call[str]:
    target = path("changes", since="now")
    return Call(Request("GET", target), lambda answer: str(answer.document["cursor"]))


def _change_page(shown: dict[str, Any]) -> ChangePage:
    events = [
        Event(
            ObjectName(one["bucket"], one["type"], one["key"]),
            one["deleted"],
            one["cursor"],
            one.get("member", LEFT_OUT),
            one.get("value", LEFT_OUT),
            _path(one),
        )
        for one in shown["changes"]
    ]
    return ChangePage(events, shown["cursor"], shown["more"])


def export_page(bucket: str | None, prefix: str, after: str | None) -> Call[Page[bytes]]:
    target = path("export", bucket=bucket, prefix=prefix, paged="true", after=after)

    def lines(answer: Answer) -> Page[bytes]:
        found = [
            line_of(
                ObjectName(one["bucket"], one["type"], one["key"]),
                one["value"],
                one.get("expires_at_ms"),
            )
            + b"\n"
            for one in answer.document["lines"]
        ]
        return Page(found, answer.document.get("next"))

    return Call(Request("GET", target), lines)


def import_portion(lines: Sequence[bytes | None], key: str | None, first: int) -> Call[Imported]:
    """Write lines, the first of which has the number `first`, under a key that may be kept."""
    request = Request(
        "POST",
        path("import", first=first),
        b"".join((line or b"") + b"\n" for line in lines),
        writes=True,
        repeatable=False,
        media_type="application/x-ndjson",
        key=key,
    )
    return Call(request, lambda answer: _imported(answer.document))


def _imported(shown: dict[str, Any]) -> Imported:
    errors = (
        WrongLine(one["line"], one["code"], one["detail"], one.get("field"))
        for one in shown["errors"]
    )
    return Imported(
        shown["lines"], shown["written"], shown["repeated"], shown["failed"], tuple(errors)
    )


def conflicts(
    bucket: str | None, type_name: str | None, key: str | None, after: str | None
) -> Call[Page[Conflict]]:
    target = path(
        "conflicts", bucket=bucket, type=type_name, key=key, limit=LIMITS.page_items, after=after
    )

    def listed(answer: Answer) -> Page[Conflict]:
        found = [_conflict(shown) for shown in answer.document["conflicts"]]
        return Page(found, answer.document.get("next"))

    return Call(Request("GET", target), listed)


def _conflict(shown: dict[str, Any]) -> Conflict:
    lost = tuple(Lost(one["value"], one["replica"], one["at_ms"]) for one in shown["lost"])
    name = ObjectName(**shown["object"])
    return Conflict(name, shown["at_ms"], shown["kept"], lost, _path(shown))


def _path(shown: dict[str, Any]) -> tuple[str, ...] | None:
    return tuple(shown["field"]) if "field" in shown else None
