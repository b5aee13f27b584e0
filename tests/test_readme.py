"""The five minutes of the README, executed word for word: what it shows is what happens.

Only what differs from reader to reader is exchanged: the ports, and where the programs are. The
lines that would not end (`crdtdb serve`) run beside the others until the end.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from processes import free_ports, until

_README = Path(__file__).parents[1] / "README.md"
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAMS = Path(sys.executable).parent


def _tour(text: str) -> str:
    return text.split("\n## Five minutes\n")[1].split("\n## ")[0]


def _commands(block: str) -> Iterator[tuple[str, str | None]]:
    """Commands, and what the comment below says that they print."""
    joined = block.replace("\\\n", " ")
    lines = joined.splitlines()
    i = 0
    while i < len(lines):
        command = lines[i]
        while command.count("'") % 2:  # a quoted text goes on
            i += 1
            command += "\n" + lines[i]
        i += 1
        shown = None
        if i < len(lines) and lines[i].startswith("# "):
            shown = lines[i][2:]
            i += 1
        yield command, shown


class _Reader:
    """Somebody who types what the README says, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        eu, us, laptop = free_ports(3)
        self._ports = {"7460": str(eu), "7461": str(us), "7462": str(laptop)}
        self._served: list[subprocess.Popen[bytes]] = []

    def _own(self, text: str) -> str:
        for port, mine in self._ports.items():
            text = text.replace(f":{port}", f":{mine}")
        return text.replace(".venv/bin/", f"{_PROGRAMS}/")

    def shell(self, command: str, shown: str | None) -> None:
        if "-m venv" in command:
            return  # it is where this test runs
        command = self._own(command)
        if " serve " in command:
            self._serve(command)
            return
        if "crdtdb status" in command:
            command += " --url http://127.0.0.1:" + self._ports["7460"]
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if shown is not None:
            assert done.stdout.strip() == shown, command

    def _serve(self, command: str) -> None:
        if "--listen" not in command:
            command += f" --listen 127.0.0.1:{self._ports['7460']}"
        listen = re.search(r"--listen (\S+)", command)
        assert listen is not None
        url = f"http://{listen[1]}"
        self._served.append(
            subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self._directory)
        )
        until(f"{url} ready", lambda: _is_ready(url))

    def python(self, block: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self._own(block)],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"

    def leave(self) -> None:
        for process in self._served:
            process.terminate()
            assert process.wait(60) == 0


def _is_ready(url: str) -> bool:
    try:
        return bool(httpx2.get(f"{url}/readyz").status_code == 200)
    except httpx2.TransportError:
        return False


def test_five_minutes(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the tour uses curl: apt-get install curl")
    reader = _Reader(tmp_path)
    blocks = _BLOCK.findall(_tour(_README.read_text()))
    assert len(blocks) >= 6, "the README lost its tour"
    checked = 0
    try:
        for language, block in blocks:
            if language == "python":
                reader.python(block)
                continue
            for command, shown in _commands(block):
                reader.shell(command, shown)
                checked += shown is not None
    finally:
        reader.leave()
    assert checked >= 4, "the README shows no answers any more"
