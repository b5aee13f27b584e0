"""The machine a figure was measured on: its cores, and what a process has used of them.

Pinning and CPU times need Linux; elsewhere `pin` does nothing.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

__all__ = [
    "BOTH",
    "CLIENT",
    "SERVER",
    "cpu_seconds",
    "facts",
    "pin",
    "private_bytes",
    "resident_bytes",
]


def _cores() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


BOTH: Final = _cores()
#: Servers and load generators each have a core to themselves, if there are two.
SERVER: Final = frozenset({min(BOTH)})
CLIENT: Final = frozenset({max(BOTH)})


def pin(pid: int, cores: frozenset[int]) -> None:
    """Let a process (0: this one) run on these cores only; call it before it starts threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cores)


def cpu_seconds(pid: int) -> float:
    """The processor time a process has used, in user and system mode."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    after_name = stat.rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in use right now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def private_bytes(pid: int) -> int:
    """The memory of a process that the system cannot take back: without pages of mapped files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (anonymous,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(anonymous.split()[1]) * 1_024


def facts() -> dict[str, str | int]:
    """What must be known to compare this run with another."""
    packages = ("aiohttp", "httptools", "lmdb", "msgspec", "pycrdt", "uvloop")
    return {
        "machine": f"{_processor()}, {len(BOTH)} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
