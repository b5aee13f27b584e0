"""The comparator: bare aiohttp that answers every request with the same bytes.

A `web.Server` whose handler makes one response, under uvloop: what an HTTP server on this stack
costs before it does anything. It reads no body and writes nothing. It runs as a program of its
own, so that nothing of crdtdb is in its process.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import uvloop
from aiohttp import web
from multidict import CIMultiDict

from machine import SERVER, pin
from raw_http import Answer

__all__ = ["Bare", "bare_servers"]

#: aiohttp adds these by itself.
_ADDED: Final = frozenset({"Content-Length", "Date", "Server"})


class Bare(NamedTuple):
    """The process, with a port for each answer."""

    pid: int
    ports: list[int]


@contextmanager
def bare_servers(answers: Sequence[Answer]) -> Iterator[Bare]:
    """A process that gives these answers, for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        pin(process.pid, SERVER)
        try:
            plain = [(answer.headers, answer.body.decode()) for answer in answers]
            process.stdin.write(json.dumps(plain) + "\n")
            process.stdin.flush()
            yield Bare(process.pid, json.loads(process.stdout.readline()))
        finally:
            process.terminate()


async def _serve(answers: Sequence[tuple[Sequence[tuple[str, str]], str]]) -> None:
    ports = []
    for headers, body in answers:
        runner = web.ServerRunner(_server(headers, body.encode()))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


def _server(fields: Sequence[tuple[str, str]], body: bytes) -> web.Server:
    headers = CIMultiDict((name, value) for name, value in fields if name not in _ADDED)

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body, headers=headers)

    return web.Server(handle, access_log=None)


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.stdin.readline())))
