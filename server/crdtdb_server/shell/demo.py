"""`crdtdb demo`: see it work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["demo"]


def demo(
    *,
    trace: Annotated[
        Path | None,
        Parameter(help="Replay a commit history: JSON lines (or .gz) with t, who, region, files."),
    ] = None,
) -> int:
    """See it work: three regions, one partition, one answer.

    Starts three replicas as three processes, writes to all, cuts one region off, writes on both
    sides, heals the cut and compares. Ends with exit code 0 only if all regions show the same, and
    every value is what a plain loop over the acknowledged writes says.

    For example:

        crdtdb demo
        crdtdb demo --trace commits.jsonl.gz
    """
    from crdtdb_server.demo.replay import replay
    from crdtdb_server.demo.screen import Screen
    from crdtdb_server.demo.story import tell
    from crdtdb_server.demo.trace import read_trace

    screen = Screen()
    good = tell(screen) if trace is None else replay(screen, read_trace(trace))
    return 0 if good else 1
