"""Machines on one wire: network namespaces, each with an address, joined by a bridge.

The bridge is in a namespace of its own, and this process has an address on it, too. A cut is a rule
of nftables in a machine's own namespace that drops what comes or goes, without a word: unlike a
closed socket, a lost packet tells nobody anything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

__all__ = ["Machine", "machines"]

#: Of this process among the machines.
_OWN: int = 254
#: Of the networks that this process has made.
_numbers = count()
_RULES = """
table inet cut {
    chain from { type filter hook input priority 0; %s; }
    chain to { type filter hook output priority 0; %s; }
}
"""


class Machine:
    """One network namespace."""

    def __init__(self, wire: str, name: str, host: str) -> None:
        self.namespace = f"{wire}-{name}"
        self.host = host

    @property
    def within(self) -> tuple[str, ...]:
        """The words before a command that runs there."""
        return ("ip", "netns", "exec", self.namespace)

    def cut(self, *others: Machine, sends: bool = True, hears: bool = True) -> None:
        """Drop all packets to and from other machines, or only one of both."""
        hosts = ", ".join(other.host for other in others)
        heard = f"ip saddr {{ {hosts} }} drop" if hears else "accept"
        sent = f"ip daddr {{ {hosts} }} drop" if sends else "accept"
        _do(*self.within, "nft", "-f", "-", given=_RULES % (heard, sent))

    def mend(self) -> None:
        """Drop nothing any more."""
        _do(*self.within, "nft", "flush", "ruleset")


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many, for as long as the block lasts; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here: apt-get install {package}")
    # What was deleted a moment ago may still be there: the system does so in its own time.
    process, number = os.getpid(), next(_numbers)
    wire = f"crdtdb{process}-{number}"
    subnet = f"10.{200 + (process + number) % 50}.{process // 50 % 250}"
    made = [Machine(wire, str(number), f"{subnet}.{number + 1}") for number in range(count)]
    switch = f"{wire}-switch"
    allowed = subprocess.run(["ip", "netns", "add", switch], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"network namespaces cannot be made here: {allowed.stderr.strip()}")
    try:
        _do("ip", "-n", switch, "link", "add", "wire", "type", "bridge")
        _do("ip", "-n", switch, "link", "set", "wire", "up")
        own = f"cr{process}-{number}"
        _do("ip", "link", "add", own, "type", "veth", "peer", "name", "own", "netns", switch)
        _plug(switch, "own")
        _do("ip", "addr", "add", f"{subnet}.{_OWN}/24", "dev", own)
        _do("ip", "link", "set", own, "up")
        for number, machine in enumerate(made):
            port, there = f"port{number}", machine.namespace
            _do("ip", "netns", "add", there)
            link = ("ip", "-n", switch, "link", "add", port, "type", "veth")
            _do(*link, "peer", "name", "eth0", "netns", there)
            _plug(switch, port)
            _do("ip", "-n", there, "addr", "add", f"{machine.host}/24", "dev", "eth0")
            _do("ip", "-n", there, "link", "set", "lo", "up")
            _do("ip", "-n", there, "link", "set", "eth0", "up")
        yield made
    finally:
        # Interfaces go with the namespace that holds them, and their peers with them.
        for namespace in (switch, *(machine.namespace for machine in made)):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def _plug(switch: str, port: str) -> None:
    _do("ip", "-n", switch, "link", "set", port, "master", "wire", "up")


def _do(*command: str, given: str | None = None) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
