"""A text over HTTP: edits, Yjs in and out, in transactions, in the feed, and what is refused."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import quote

import pytest
from pycrdt import Doc, Text

from wireclient import Wire

AT = "/v1/buckets/home/text/note"
NAME = {"bucket": "home", "type": "text", "key": "note"}


async def test_edits(wire: Wire) -> None:
    answer = await wire.post(AT, {"op": "insert", "text": "wash 🍐"})
    assert answer.document == {"size": 6, "changed": True}
    edits = [
        {"op": "insert", "index": 5, "text": "one "},
        {"op": "delete", "index": 0, "length": 1},
    ]
    assert (await wire.post(AT, edits)).document == {"size": 9, "changed": True}
    read = (await wire.get(AT)).document
    assert (read["value"], read["exists"]) == ("ash one 🍐", True)
    assert "size" not in read
    assert "seen" not in read
    assert (await wire.request("DELETE", AT)).document == {"size": 0, "changed": True}
    assert not (await wire.get(AT)).document["exists"]


async def test_an_editor_takes_part(wire: Wire) -> None:
    await wire.post(AT, {"op": "insert", "text": "wash"})
    joined = (await wire.get(f"{AT}?format=yjs")).document
    editor: Doc[Any] = Doc(client_id=joined["client"])
    text = editor.get("text", type=Text)
    editor.apply_update(b64decode(joined["value"]))
    state = editor.get_state()
    text += " up"
    update = b64encode(editor.get_update(state)).decode()
    assert (await wire.post(AT, {"op": "update", "yjs": update})).document["size"] == 7
    since = quote(b64encode(editor.get_state()).decode(), safe="")
    await wire.post(AT, {"op": "insert", "text": "!"})
    lacking = (await wire.get(f"{AT}?format=yjs&since={since}")).document
    assert lacking.keys() == {*NAME, "value", "exists", "client"}
    editor.apply_update(b64decode(lacking["value"]))
    assert str(text) == "wash up!"


async def test_in_a_transaction_and_in_the_feed(wire: Wire) -> None:
    asked = {
        "reads": [NAME, {**NAME, "format": "yjs"}],
        "updates": [{**NAME, "op": "insert", "text": text} for text in ("a", "b")],
    }
    answer = (await wire.post("/v1/transactions", asked)).document
    assert [read["value"] for read in answer["reads"]] == ["", "AAA="]
    assert [result["size"] for result in answer["results"]] == [1, 2]
    changes = (await wire.get("/v1/changes?include=value")).document["changes"]
    assert [(change["key"], change["value"]) for change in changes] == [("note", "ab")]
    explained = (await wire.get(f"{AT}?explain=true")).document["explain"]["records"]
    assert [entry["inserted"] for entry in explained[0]["entries"]] == [["ab"]]


@pytest.mark.parametrize(
    ("at", "field", "status"),
    [
        (f"{AT}?format=xml", "format", 400),
        (f"{AT}?since=AA%3D%3D", "since", 400),
        (f"{AT}?format=yjs&since=!", "since", 400),
        (f"{AT}?format=yjs&since=%2F%2F%2F%2F", "since", 400),
        (f"{AT}?format=yjs&limit=3", "format", 400),
        (f"{AT}?limit=3", "limit", 422),
        ("/v1/buckets/home/set/note?format=yjs", "format", 422),
    ],
)
async def test_what_cannot_be_asked_of_a_text(wire: Wire, at: str, field: str, status: int) -> None:
    refused = await wire.get(at)
    assert (refused.status, refused.document["errors"][0]["field"]) == (status, field)
