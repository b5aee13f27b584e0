"""The shell command, run in this process against a live replica."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from commands import Ran, Run, run_command
from liveserver import live_server


@pytest.fixture
def url() -> Iterator[str]:
    with live_server() as url:
        yield url


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command."""

    def run(*arguments: str) -> Ran:
        return run_command(arguments, capsys)

    return run


@pytest.fixture
def crdtdb(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against a live replica."""
    monkeypatch.setenv("CRDTDB_URL", url)
    return run
