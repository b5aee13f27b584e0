"""Running the shell command in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import pytest

from crdtdb_server.shell import main

__all__ = ["Ran", "Run", "run_command"]


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """The documents it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Run(Protocol):
    """Runs a command."""

    def __call__(self, *arguments: str) -> Ran: ...


def run_command(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Ran:
    """Run a command as the shell would."""
    try:
        code = main(arguments)
    except SystemExit as wrong_usage:
        code = int(wrong_usage.code or 0)
    captured = capsys.readouterr()
    return Ran(code, captured.out, captured.err)
