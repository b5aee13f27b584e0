"""Editors made of the real Yjs (JavaScript) take part in a `text` of two replicas.

pycrdt is Yjs in Rust; what people have in their browsers is the original. It is installed by

    npm install --no-save --no-package-lock --prefix build/node yjs@13

and without it, or without Node.js, these tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

import pytest

from livecluster import LiveWire, eventually, live_cluster
from processes import DEADLINE_S

_AT: Final = "/v1/buckets/home/text/note"
_MODULES: Final = Path(__file__).parents[2] / "build" / "node"
_WORDS: Final = ("wash ", "🍐🍐", "é", "x", "two words ", "漢字", "\n")
_STEPS: Final = 40
_SCRIPTS: Final = 8

_node = shutil.which("node")
pytestmark = pytest.mark.skipif(
    _node is None or not (_MODULES / "node_modules" / "yjs").is_dir(),
    reason="needs Node.js and: npm install --no-save --no-package-lock --prefix build/node yjs@13",
)


class Editor:
    """One program with a document, enrolled at one replica."""

    def __init__(self, process: asyncio.subprocess.Process, wire: LiveWire) -> None:
        self._process = process
        self._wire = wire
        self.text = ""
        self._state = ""
        #: The state that the replica has of this document, at least.
        self._sent = ""

    async def do(self, what: str, **told: Any) -> dict[str, Any]:
        """Let it do something."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **told}).encode() + b"\n")
        async with asyncio.timeout(DEADLINE_S):
            line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line)
        self.text, self._state = answer["text"], answer["state"]
        return answer

    async def edit(self, random: Random) -> None:
        """Type a word, or delete some letters."""
        size = len(self.text)
        if size and random.random() < 0.35:
            index = random.randrange(size)
            await self.do("delete", index=index, length=min(size - index, random.randint(1, 6)))
        else:
            await self.do("insert", index=random.randint(0, size), text=random.choice(_WORDS))

    async def send(self) -> None:
        """Give its replica what that lacks."""
        update = (await self.do("lacking", state=self._sent))["update"]
        answer = await self._wire.post(_AT, {"op": "update", "yjs": update})
        assert answer.status == 200, answer.document
        self._sent = self._state

    async def fetch(self) -> None:
        """Take what its replica has."""
        since = f"&since={quote(self._state, safe='')}" if self._state else ""
        lacking = (await self._wire.get(f"{_AT}?format=yjs{since}")).document
        await self.do("apply", update=lacking["value"])


@asynccontextmanager
async def _editor(wire: LiveWire) -> AsyncIterator[Editor]:
    assert _node is not None
    process = await asyncio.create_subprocess_exec(
        *(_node, str(Path(__file__).with_name("editor.cjs")), str(_MODULES)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        editor = Editor(process, wire)
        joined = (await wire.get(f"{_AT}?format=yjs")).document
        await editor.do("begin", client=joined["client"])
        await editor.do("apply", update=joined["value"])
        yield editor
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("seed_of_script", range(_SCRIPTS))
async def test_all_end_with_one_text(seed_of_script: int) -> None:
    random = Random(f"{seed_of_script} yjs")
    async with live_cluster("eu-1", "us-1") as wires, AsyncExitStack() as stack:
        await wires[0].post(_AT, {"op": "insert", "text": "buy pears"})
        await eventually("both have it", lambda: _texts(wires) == {"buy pears"})
        at = [wires[0], wires[0], wires[1]]
        editors = [await stack.enter_async_context(_editor(wire)) for wire in at]
        for _ in range(_STEPS):
            match random.randrange(8):
                case 0 | 1 | 2:
                    await random.choice(editors).edit(random)
                case 3 | 4:
                    await random.choice(editors).send()
                case 5:
                    await random.choice(editors).fetch()
                case 6:
                    edit = {"op": "insert", "text": random.choice(_WORDS)}
                    assert (await random.choice(wires).post(_AT, edit)).status == 200
                case _:
                    wires[0].cut(wires[1]) if random.random() < 0.5 else wires[0].mend(wires[1])
        wires[0].mend(wires[1])
        for editor in editors:
            await editor.send()
        await eventually("the replicas agree", lambda: len(_states(wires)) == 1)
        (text,) = _texts(wires)
        for editor in editors:
            await editor.fetch()
            assert editor.text == text
        newcomer = await stack.enter_async_context(_editor(wires[1]))
        assert newcomer.text == text


def _texts(wires: list[LiveWire]) -> set[str]:
    return {wire.service.database.text("home", "note").get().value for wire in wires}


def _states(wires: list[LiveWire]) -> set[object]:
    return {wire.service.database.engine.state.seen for wire in wires}
