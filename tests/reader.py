"""Somebody who types what a page of documentation shows, in a directory of their own.

Blocks of `sh` and `python` are carried out word for word; blocks of other kinds are only shown. A
comment below a command is what it prints, and `# stop the replica of DIRECTORY` is what the reader
does by hand. Only what differs from reader to reader is exchanged: the ports, and where the
programs are. Commands that would not end (`crdtdb serve`) run beside the others until the end.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2

from crdtdb_server.ports import free_ports
from processes import DEADLINE_S, until

__all__ = ["Reader", "blocks"]

_BLOCK: Final = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STOP: Final = "# stop the replica of "
_PROGRAMS: Final = Path(sys.executable).parent
#: The ports that pages use; at the last, nobody listens.
_PORTS: Final = ("7460", "7461", "7462", "7469")


def blocks(text: str) -> list[tuple[str, str]]:
    """What a page shows to be carried out: language and text."""
    return _BLOCK.findall(text)


def _commands(block: str) -> Iterator[tuple[str, str | None]]:
    """Commands, and what the comment below says that they print."""
    lines = block.replace("\\\n", " ").splitlines()
    i = 0
    while i < len(lines):
        command = lines[i]
        while command.count("'") % 2:  # a quoted text goes on
            i += 1
            command += "\n" + lines[i]
        i += 1
        shown = None
        if i < len(lines) and lines[i].startswith("# ") and not lines[i].startswith(_STOP):
            shown = lines[i][2:]
            i += 1
        yield command, shown


class Reader:
    """Carries out one page."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True))
        self._served: dict[str, subprocess.Popen[bytes]] = {}
        #: How many answers were compared with what the page says.
        self.checked = 0

    def read(self, text: str) -> None:
        """Carry out a page from its beginning to its end."""
        try:
            for language, block in blocks(text):
                if language == "python":
                    self._python(block)
                    continue
                for command, shown in _commands(block):
                    self._shell(command, shown)
        finally:
            for process in self._served.values():
                process.terminate()
            codes = {name: process.wait(DEADLINE_S) for name, process in self._served.items()}
        assert not any(codes.values()), codes

    def _own(self, text: str) -> str:
        for port, mine in self._ports.items():
            text = text.replace(f":{port}", f":{mine}")
        return text.replace(".venv/bin/", f"{_PROGRAMS}/")

    def _shell(self, command: str, shown: str | None) -> None:
        if "-m venv" in command:
            return  # it is where this test runs
        if command.startswith(_STOP):
            process = self._served.pop(command.removeprefix(_STOP))
            process.terminate()
            assert process.wait(DEADLINE_S) == 0, command
            return
        command = self._own(command)
        if " serve " in command:
            self._serve(command)
            return
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._directory,
            env=os.environ | {"CRDTDB_URL": f"http://127.0.0.1:{self._ports['7460']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if shown is not None:
            assert done.stdout.strip() == self._own(shown), command
            self.checked += 1

    def _serve(self, command: str) -> None:
        if "--listen" not in command:
            command += f" --listen 127.0.0.1:{self._ports['7460']}"
        listen = re.search(r"--listen (\S+)", command)
        data_dir = re.search(r"--data-dir (\S+)", command)
        assert listen is not None
        assert data_dir is not None
        url = f"http://{listen[1]}"
        self._served[data_dir[1]] = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self._directory
        )
        until(f"{url} ready", lambda: _is_ready(url))

    def _python(self, block: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self._own(block)],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def _is_ready(url: str) -> bool:
    try:
        return bool(httpx2.get(f"{url}/readyz").status_code == 200)
    except httpx2.TransportError:
        return False
