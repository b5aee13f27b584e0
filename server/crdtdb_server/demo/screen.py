"""What the demo shows: short sentences and tables, in colour on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["Screen", "shown"]

#: Without a terminal there is no width to fit, but tables should look the same everywhere.
_WIDTH: Final = 100
_INDENT: Final = (0, 0, 0, 2)


class Screen:
    """The console of the demo."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console(highlight=False) if console is None else console
        if not self.console.is_terminal:
            self.console.width = _WIDTH

    def heading(self, text: str) -> None:
        """Begin a part."""
        self.console.print()
        self.console.print(Text(text, style="bold cyan"))

    def say(self, text: str, style: str = "") -> None:
        """A sentence or two."""
        self.console.print(Padding(Text(text, style=style), _INDENT, expand=False))

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        *,
        last_dim: bool = False,
    ) -> None:
        """A table, indented."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False)
        for position, column in enumerate(columns):
            dim = last_dim and position == len(columns) - 1
            table.add_column(column, style="dim" if dim else "")
        for row in rows:
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
        self.console.print()
        self.console.print(Padding(table, _INDENT, expand=False))

    def verdict(self, text: str, *, good: bool) -> None:
        """How it went."""
        mark, style = ("✔", "bold green") if good else ("✘", "bold red")
        self.console.print()
        self.console.print(Text(f"{mark} {text}", style=style))


def shown(value: Any) -> str:
    """A value of an object, as short as it can be understood."""
    match value:
        case bool():
            return "on" if value else "off"
        case str():
            return value
        case list():
            return ", ".join(map(shown, value)) or "(empty)"
        case _:
            return json.dumps(value)
