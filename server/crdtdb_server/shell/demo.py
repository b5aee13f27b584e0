"""`crdtdb demo`: see it work."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

from cyclopts import Group, Parameter, Token
from cyclopts.validators import mutually_exclusive

from crdtdb_client.targets import replica_url

__all__ = ["demo"]

#: A history is replayed by replicas that hold nothing else.
_EITHER: Final = Group("What is told", validator=mutually_exclusive)


def _urls(_kind: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(replica_url(token.value) for token in tokens)


def demo(
    *,
    trace: Annotated[
        Path | None,
        Parameter(
            help="Replay a commit history: JSON lines (or .gz) with t, who, region, files.",
            group=_EITHER,
        ),
    ] = None,
    at: Annotated[
        tuple[str, ...],
        Parameter(
            help="Tell the story to a replica that runs already. Give three, in the regions eu, us "
            "and ap, started with --allow-fault-injection.",
            converter=_urls,
            group=_EITHER,
            negative="",
            show_default=False,
        ),
    ] = (),
) -> int:
    """See it work: three regions, one partition, one answer.

    Starts three replicas as three processes, writes to all, cuts one region off, writes on both
    sides, heals the cut and compares. Ends with exit code 0 only if all regions show the same, and
    every value is what a plain loop over the acknowledged writes says.

    For example:

        crdtdb demo
        crdtdb demo --trace commits.jsonl.gz
        crdtdb demo --at http://eu:7460 --at http://us:7460 --at http://ap:7460
    """
    from crdtdb_server.demo.replay import replay
    from crdtdb_server.demo.screen import Screen
    from crdtdb_server.demo.story import tell, tell_at
    from crdtdb_server.demo.trace import read_trace

    screen = Screen()
    with _unwound_by_signals():
        if trace is not None:
            good = replay(screen, read_trace(trace))
        else:
            good = tell_at(screen, at) if at else tell(screen)
    return 0 if good else 1


@contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does: no replica, no cut is left behind."""

    def unwind(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
