"""`crdtdb explain`: why an object reads as it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from crdtdb.answers import LEFT_OUT
from crdtdb_server.shell.arguments import Address, AsJson, FieldPath, Member
from crdtdb_server.shell.printing import (
    cell,
    json_text,
    moment,
    note,
    print_json,
    print_table,
    printable,
)
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["explain"]

_COLUMNS: Final = ("part", "state", "holds", "writer", "time", "dot")
_RIGHTS: Final = ("holds rights", "to decrement", "to increment")
#: What has a column of its own, or says the same again.
_SHOWN: Final = frozenset({"dot", "state", "time", "at_ms"})


def explain(
    address: Address,
    /,
    *,
    member: Member = LEFT_OUT,
    field: FieldPath = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show why an object reads as it does: what wins, what loses, who wrote it, and when.

    Every line is one operation in force. It `wins` when the value comes from it; it `loses` to a
    concurrent one; it is `cut` when the object was deleted after it. The time is the hybrid logical
    clock's, whose logical part follows the `+`.

    For example:

        crdtdb explain shop/register/title
        crdtdb explain shop/set/cart:42 --member apple
        crdtdb explain shop/map/cart:42 --field '["items"]'
    """
    with server.client() as client:
        explanation = client.explain(address, member, field)
    if json:
        print_json(explanation)
        return
    print_table(_COLUMNS, list(_rows(explanation)))
    if rights := list(_rights(explanation)):
        print_table(_RIGHTS, rights)
    if not explanation["records"]:
        note("(nothing is in force)")
    if explanation["cut"] is not None:
        note(f"(deleted up to {_seen(explanation['cut'], explanation['replicas'])})")
    note(f"(seen up to {_seen(explanation['context'], explanation['replicas'])})")
    if explanation["more"]:
        note("(there are more members; name one with --member)")


def _rows(explanation: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for record in explanation["records"]:
        named = [json_text(record[at]) for at in ("field", "member") if at in record]
        part = cell(" ".join(named)) if named else record["kind"]
        for entry in record["entries"]:
            dot = entry["dot"]
            incarnation = dot.partition(":")[0]
            yield (
                part,
                entry["state"],
                cell(_held(entry)),
                _called(incarnation, explanation["replicas"]),
                _time(entry),
                dot,
            )


def _rights(explanation: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Who may do how much to an object with bounds."""
    for record in explanation["records"]:
        for incarnation, held in record.get("rights", {}).items():
            counts = (json_text(held["decrement"]), json_text(held["increment"]))
            yield (_called(incarnation, explanation["replicas"]), *counts)


def _held(entry: dict[str, Any]) -> str:
    """What an operation says: the value alone where there is nothing else."""
    held = {name: value for name, value in entry.items() if name not in _SHOWN}
    if held.keys() == {"value"}:
        return json_text(held["value"])
    return " ".join(f"{name}={json_text(value)}" for name, value in held.items())


def _called(incarnation: str, names: dict[str, str | None]) -> str:
    return printable(names.get(incarnation) or incarnation)


def _time(entry: dict[str, Any]) -> str:
    if "at_ms" not in entry:
        return ""
    return f"{moment(entry['at_ms'])}+{entry['time'] & 0xFFFF}"


def _seen(vector: dict[str, int], names: dict[str, str | None]) -> str:
    parts = [f"{_called(incarnation, names)}:{count}" for incarnation, count in vector.items()]
    return ", ".join(parts) or "nothing"
