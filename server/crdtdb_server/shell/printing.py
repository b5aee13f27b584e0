"""Output: tables and colours on a terminal, plain lines in a pipe, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

__all__ = [
    "DEFAULT_URL",
    "age",
    "cell",
    "json_text",
    "moment",
    "note",
    "on_terminal",
    "print_json",
    "print_table",
    "printable",
]

#: The server that commands talk to unless they are told otherwise.
DEFAULT_URL: Final = "http://127.0.0.1:7460"

#: A value in a table.
_VALUE_SHOWN: Final = 60


def on_terminal() -> bool:
    """Is somebody looking at the output?"""
    return sys.stdout.isatty()


def json_text(value: Any) -> str:
    """JSON text for people: one line, and nothing in it that a terminal would obey."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def printable(text: str) -> str:
    """A name as it is, or quoted if it holds something that a terminal would obey."""
    return text if text.isprintable() else json.dumps(text)


def moment(at_ms: int) -> str:
    """A time in milliseconds since 1970, in UTC; as it is where a clock showed nonsense."""
    seconds, milliseconds = divmod(at_ms, 1_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{milliseconds:03}"
    except (ValueError, OverflowError):
        return f"{at_ms} ms"


def age(milliseconds: int | None) -> str:
    """How long ago something was, in one unit; None: it never was."""
    if milliseconds is None:
        return "never"
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    seconds = milliseconds // 1_000
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"


def cell(text: str) -> str:
    """A value as it stands in a table: on a terminal only the beginning of a long one."""
    if not on_terminal() or len(text) <= _VALUE_SHOWN:
        return text
    return text[: _VALUE_SHOWN - 1] + "…"


def print_json(document: Any) -> None:
    """One document on one line."""
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; in a pipe the rows, with tabs between the cells."""
    if not on_terminal():
        for row in rows:
            print("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def note(text: str) -> None:
    """Something beside the result; it does not get into a pipe."""
    print(f"\033[2m{text}\033[0m" if sys.stderr.isatty() else text, file=sys.stderr)
