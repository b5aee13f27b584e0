"""The demo with real processes: it ends well, it notices when not, it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crdtdb.errors import StartError
from crdtdb_server.demo import plot, story
from crdtdb_server.demo import regions as demo_regions
from crdtdb_server.demo import replay as demo_replay
from crdtdb_server.demo.loop import Acknowledged, Address, expected
from crdtdb_server.demo.screen import Screen
from crdtdb_server.demo.trace import read_trace
from livecluster import live_cluster


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The shell command, with its temporary files in a directory of ours."""
    process = subprocess.Popen(
        [sys.executable, "-m", "crdtdb_server", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(directory), "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def replica_processes(directory: Path) -> list[int]:
    """The processes whose command line names a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in command:
                found.append(int(entry.name))
    return found


def assert_nothing_left(directory: Path) -> None:
    assert replica_processes(directory) == []
    assert list(directory.iterdir()) == []


def commits(count: int) -> list[dict[str, Any]]:
    """A small history in three regions, with paths that all of them touch."""
    return [
        {
            "t": number,
            "who": number % 7,
            "region": ("emea", "emea", "apac", "americas")[number % 4],
            "files": [[f"src/{number % 5}.c", number, number % 3], [f"doc/{number}", 1, 0]],
        }
        for number in range(count)
    ]


def write_trace(directory: Path, lines: Sequence[dict[str, Any]]) -> Path:
    file = directory / "commits.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_the_story_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    writes = len(plot.BEFORE) + len(plot.DURING) + len(plot.AFTER)
    assert f"✔ {writes} writes acknowledged, 0 refused." in output
    assert "✘" not in output
    assert_nothing_left(tmp_path)


def test_a_history_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with demo(home, "--trace", str(write_trace(tmp_path, commits(60)))) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "60 commits; emea cut off during 30; all equal" in output
    assert re.search(r"[\d,]+ commits a second", output)
    assert "✔ In every region every object is what a plain loop over the file says." in output
    assert_nothing_left(home)


def test_a_bad_history_is_named_before_anything_starts(tmp_path: Path) -> None:
    file = write_trace(tmp_path, [*commits(2), {"t": 3}])
    home = tmp_path / "home"
    home.mkdir()
    with demo(home, "--trace", str(file)) as process:
        output, _ = process.communicate()
    assert process.returncode == 1
    assert output.startswith("failed: line 3 is no commit: Object missing required field `who`")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        while "2  Write to all three" not in process.stdout.readline():
            assert process.poll() is None
        assert len(replica_processes(tmp_path)) == 3
        process.send_signal(number)
        output, _ = process.communicate()
    assert (process.returncode, "Traceback" in output) == (code, False)
    assert_nothing_left(tmp_path)


async def test_the_story_is_told_to_replicas_that_run_already(screen: Screen) -> None:
    async with live_cluster("ap-1", "eu-1", "us-1") as replicas:
        urls = [f"http://127.0.0.1:{replica.port}" for replica in replicas]
        assert await asyncio.to_thread(story.tell_at, screen, urls) is True, shown(screen)
        assert all(not replica.network.faults.all() for replica in replicas), "no cut is left"
    assert re.search(r"eu +eu-1 +http://127.0.0.1:\d+ +it was running", shown(screen))


async def test_a_broken_story_leaves_no_cut(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet = demo_regions.Regions.meet

    def break_off(regions: demo_regions.Regions, names: Sequence[str] = ()) -> Any:
        if names:  # those that are not cut off
            raise demo_regions.NotConverged("never")
        return meet(regions)

    monkeypatch.setattr(demo_regions.Regions, "meet", break_off)
    async with live_cluster("ap-1", "eu-1", "us-1") as replicas:
        urls = [f"http://127.0.0.1:{replica.port}" for replica in replicas]
        assert await asyncio.to_thread(story.tell_at, screen, urls) is False
        assert all(not replica.network.faults.all() for replica in replicas)


async def test_a_story_that_is_told_elsewhere(screen: Screen) -> None:
    async with live_cluster("eu-1", "us-1") as replicas:
        urls = [f"http://127.0.0.1:{replica.port}" for replica in replicas]
        with pytest.raises(StartError, match="eu, us, ap is needed; these are in: eu, us"):
            await asyncio.to_thread(story.tell_at, screen, urls)


# -- the demo must be able to fail ----------------------------------------------------------------


@pytest.fixture
def screen() -> Screen:
    return Screen(Console(file=StringIO()))


def shown(screen: Screen) -> str:
    assert isinstance(screen.console.file, StringIO)
    return screen.console.file.getvalue()


def test_a_value_that_is_not_what_the_loop_says(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def miscount(history: Sequence[Acknowledged], *, isolated: str) -> dict[Address, Any]:
        return expected(history, isolated=isolated) | {("counter", "views"): 7}

    monkeypatch.setattr(story, "expected", miscount)
    assert story.tell(screen) is False
    output = shown(screen)
    assert re.search(r"counter/views +48 / 48 / 48 +7 +✘", output)
    assert "The plain loop over them says otherwise." in output


def test_a_write_that_is_refused(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = plot.Line("ap", ("counter", "views"), {"op": "increment", "by": 0})
    monkeypatch.setattr(story, "DURING", (*plot.DURING, refused))
    assert story.tell(screen) is False
    output = shown(screen)
    assert f"{len(plot.DURING) + 1} writes, 1 refused" in output
    assert "ap refused {'op': 'increment', 'by': 0} on counter/views" in output
    assert "1 refused. A live replica must not refuse any." in output


def test_regions_that_do_not_meet(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_regions, "_CONVERGE_S", 1.0)
    monkeypatch.setattr(demo_regions.Regions, "heal", lambda regions, name: None)
    assert story.tell(screen) is False
    output = shown(screen)
    assert "✘ the regions still differ 1 s later" in output
    assert "--- eu-1" in output


def test_a_commit_that_is_lost(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = demo_replay.write_commit

    def write_most(db: Any, commit: Any) -> None:
        if commit.t != 7:
            write(db, commit)

    monkeypatch.setattr(demo_replay, "write_commit", write_most)
    assert demo_replay.replay(screen, read_trace(write_trace(tmp_path, commits(20)))) is False
    output = shown(screen)
    assert "emea: counter lines/0 shows" in output
    assert "differences from a plain loop over the file" in output


def test_a_replica_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(demo_regions, "free_ports", lambda count: [port] * count)
        expected_error = pytest.raises(StartError, match="cannot listen on")
        with expected_error, demo_regions.running(["eu"]):
            pass
