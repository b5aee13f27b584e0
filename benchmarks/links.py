"""The links of a replica that lets faults be injected: cut, mended, and what has crossed them."""

from __future__ import annotations

from time import monotonic
from typing import Final

from raw_http import Line, request

__all__ = ["FAULTS", "cut", "exchange_states", "mend", "token"]

#: For `serve`: what lets links be cut.
FAULTS: Final = ("--allow-fault-injection",)
_PATH: Final = "/v1/faults/links/"
_READ: Final = "/v1/buckets/bench/register/any"
_TOKEN: Final = "Crdtdb-Context"
#: A replica that is further behind is asked again.
_WAIT: Final = ("Prefer", "wait=20")
_GIVEN_UP_S: Final = 600.0


def cut(line: Line, peer: str) -> None:
    """From now on nothing crosses the link to a peer, either way."""
    line.exchange(request("PUT", _PATH + peer, {"drop": True}))


def mend(line: Line, peer: str) -> None:
    """Let the link work again."""
    line.exchange(request("DELETE", _PATH + peer))


def token(line: Line) -> str:
    """What covers everything that a replica has seen by now."""
    return line.ask(request("GET", _READ)).header(_TOKEN)


def exchange_states(one: Line, other: Line, token_of_one: str, token_of_other: str) -> None:
    """Wait until each of two replicas has what the other had seen. Raises TimeoutError."""
    deadline = monotonic() + _GIVEN_UP_S
    open_ends = [(one, token_of_other), (other, token_of_one)]
    while open_ends:
        if monotonic() > deadline:
            raise TimeoutError("replicas did not become level")
        for line, wanted in open_ends:
            line.send(request("GET", _READ, headers=((_TOKEN, wanted), _WAIT)))
        open_ends = [end for end in open_ends if not _covers(end[0])]


def _covers(line: Line) -> bool:
    """Was the answer that is on its way given by a replica that has what was asked for?"""
    try:
        line.receive()
    except RuntimeError:  # still behind
        return False
    return True
