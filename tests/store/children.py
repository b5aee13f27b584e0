"""Test code that has to run in a process of its own: killed, limited, or on a broken disk.

A test module passes one of its own functions and the strings it takes; `main` at its end calls it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["Died", "main", "run", "start"]

_ROOT = Path(__file__).parents[2]

Child = Callable[..., None]


class Died(AssertionError):
    """A child did not come to a good end."""


def start(
    child: Child, *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Begin to run `child`; what it prints can be read line by line."""
    script = sys.modules[child.__module__].__file__
    assert script is not None
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-u", script, child.__name__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
    )


def run(
    child: Child, *arguments: object, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Run `child` to its end, which must be a good one; the lines it printed."""
    with start(child, *arguments, environment=environment) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise Died(f"{child.__name__} ended with {process.returncode}: {output}")
    return output.splitlines()


def main(module: Mapping[str, Child]) -> None:
    """Be the child that the command line names."""
    name, *arguments = sys.argv[1:]
    module[name](*arguments)
