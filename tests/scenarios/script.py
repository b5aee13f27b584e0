"""Reading a scenario: prose at the margin, indented lines are commands. See the package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["COMMANDS", "Command", "ScriptError", "read_script", "value_of", "values_of"]


class ScriptError(ValueError):
    """A script cannot be read, or asks for what cannot be done. Names the file and the line."""


class Command(NamedTuple):
    """One line to carry out."""

    #: `file.txt:12`, for messages.
    where: str
    #: Which of `COMMANDS`, and what the line gives for its places.
    name: str
    given: dict[str, str]


_NAME: Final = r"[a-z][a-z0-9-]*"
_NAMES: Final = rf"{_NAME}(?: {_NAME})*"
_WHO: Final = rf"(?P<who>every replica|{_NAMES})"
_OBJECT: Final = r"(?P<type>[a-z]+) (?P<bucket>[a-z0-9._-]+)/(?P<key>\S+)"
_TIME: Final = r"(?P<count>-?\d+) (?P<unit>ms|seconds?|minutes?|hours?|days?)"

#: Name → what a line of it looks like. The first that fits counts.
COMMANDS: Final = {
    name: re.compile(pattern)
    for name, pattern in {
        "replicas": rf"replicas (?P<names>{_NAMES})",
        "join": rf"join (?P<name>{_NAME})",
        "pages": r"pages of (?P<count>\d+) records",
        "count": rf"{_WHO}: (?P<what>members|tombstones|cuts) = (?P<count>\d+)",
        "show": rf"{_WHO}: {_OBJECT} = (?P<value>.+)",
        "write": rf"(?P<name>{_NAME}): {_OBJECT} (?P<op>[a-z]+)(?P<arguments>( .+)?)",
        "refuse": rf"(?P<name>{_NAME}) refuses: {_OBJECT} (?P<op>[a-z]+)(?P<arguments>( .+)?)",
        "cut_one_way": rf"cut (?P<origin>{_NAME}) > (?P<target>{_NAME})",
        "cut_link": rf"cut (?P<origin>{_NAME}) - (?P<target>{_NAME})",
        "cut": rf"cut (?P<groups>{_NAMES}(?: \| {_NAMES})+)",
        "heal": r"heal",
        "wait_until_equal": r"wait until equal",
        "wait": rf"wait {_TIME}",
        "stop": rf"stop (?P<name>{_NAME})",
        "start": rf"start (?P<name>{_NAME})",
        "back_up": rf"back up (?P<name>{_NAME})",
        "restore": rf"restore (?P<name>{_NAME})",
        "lose_disk": rf"lose disk of (?P<name>{_NAME})",
        "copy": rf"copy (?P<name>{_NAME}) to (?P<other>{_NAME})",
        "set_up": rf"set up (?P<name>{_NAME}) as another (?P<other>{_NAME})",
        "rename": rf"(?P<name>{_NAME}) gets a name of its own",
        "report": rf"(?P<name>{_NAME}) reports that there are two of (?P<other>{_NAME})",
        "jump": rf"clock of (?P<name>{_NAME}) jumps {_TIME}",
        "evict": rf"(?P<name>{_NAME}) evicts (?P<other>{_NAME})",
        "rejoin": rf"(?P<name>{_NAME}) rejoins",
        "state": rf"(?P<name>{_NAME}) (?P<what>is evicted|serves|is new|is the same)",
    }.items()
}
#: `name=value` or a value: a JSON string, an array, or a word.
_ARGUMENT: Final = re.compile(r'(?:([a-z_]+)=)?("(?:[^"\\]|\\.)*"|\[[^]]*\]|\S+)')


def read_script(path: Path) -> list[Command]:
    """The commands of a script, in order. Raises ScriptError."""
    commands = list(_commands(path))
    if not commands:
        raise ScriptError(f"{path.name}: nothing happens in it; commands are indented")
    return commands


def _commands(path: Path) -> Iterator[Command]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.startswith((" ", "\t")) or not line.strip():
            continue
        where, text = f"{path.name}:{number}", " ".join(line.split())
        for name, pattern in COMMANDS.items():
            if found := pattern.fullmatch(text):
                yield Command(where, name, found.groupdict())
                break
        else:
            raise ScriptError(f"{where}: this is no command: {text}")


def value_of(text: str) -> Any:
    """JSON if it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def values_of(arguments: str, unnamed: str) -> dict[str, Any]:
    """The arguments of an operation; the one without a name is `unnamed`."""
    return {
        name or unnamed: value_of(value) for name, value in _ARGUMENT.findall(arguments.strip())
    }
