"""`watch` as people run it: a process that follows, survives its server, and ends when told to."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from commands import Run
from crdtdb_client import Client
from crdtdb_server.ports import free_ports
from processes import DEADLINE_S, Replica


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    with Replica("eu-1", free_ports(1)[0], [], tmp_path) as replica:
        yield replica.until_ready()


@contextmanager
def _watching(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "crdtdb_server", "watch", *arguments, "--url", url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and what it said on the side."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, err


def test_a_change_is_a_line_and_an_interruption_no_error(replica: Replica) -> None:
    with Client(replica.url) as client, _watching(replica.url, "--since", "start") as process:
        client.counter("shop", "views").increment(5)
        assert _next_line(process) == "shop/counter/views\t5\n"
        client.set("shop", "cart").add("pear")
        assert _next_line(process) == 'shop/set/cart\t+\t"pear"\n'
        client.set("shop", "cart").remove("pear")
        assert _next_line(process) == 'shop/set/cart\t-\t"pear"\n'
        assert _interrupted(process) == (0, "")


def test_it_goes_on_when_its_server_was_restarted(replica: Replica) -> None:
    with _watching(replica.url, "shop/register", "--since", "start", "--json") as process:
        for value in range(3):
            with Client(replica.url) as client:
                client.counter("shop", "other").increment()
                client.register("shop", f"k{value}").set(value)
            change: dict[str, Any] = json.loads(_next_line(process))
            assert change.pop("cursor")
            name = {"bucket": "shop", "type": "register", "key": f"k{value}"}
            assert change == {**name, "deleted": False, "value": value}
            replica.kill()
            replica.start().until_ready()
        assert _interrupted(process)[0] == 0


def test_without_a_server_there_is_nothing_to_watch(run: Run) -> None:
    ran = run("watch", "--url", "http://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("unreachable: ")


def test_somebody_at_a_terminal_sees_colours(replica: Replica) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "crdtdb_server", "watch", "--url", replica.url]
    with Client(replica.url) as client:
        cart = client.set("shop", "cart")
        cart.add("pear")
        cart.remove("pear")
        client.counter("shop", "views").increment(5)
        with subprocess.Popen([*command, "--since", "start"], stdout=slave) as process:
            os.close(slave)
            with os.fdopen(master) as screen:
                gone, there = screen.readline(), screen.readline()
                process.send_signal(signal.SIGINT)
                assert process.wait(DEADLINE_S) == 0
    assert gone.endswith('shop/set/cart  \033[31m-  "pear"\033[0m\n')
    assert there.endswith("shop/counter/views  \033[32m5\033[0m\n")


def test_now_stays_the_same_moment(url: str) -> None:
    with Client(url) as client:
        client.counter("shop", "before").increment()
        now = client.now()
        client.counter("shop", "after").increment()
        for _ in range(2):
            changes = client.changes(since=now, follow=False)
            assert [event.name.key for event in changes] == ["after"]
