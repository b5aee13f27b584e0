"""`crdtdb config show`: the settings that `crdtdb serve` would have, and where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import App, ArgumentCollection, Parameter

from crdtdb_server.config import SOURCES, Settings
from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import print_json, print_table, printable
from crdtdb_server.shell.serve import check_together

__all__ = ["make_config"]

_DEFAULT: Final = "default"


class _Origins:
    """The last of the sources: it adds nothing, and notes what the others have said."""

    def __init__(self) -> None:
        self.by_key: dict[str, str] = {}

    def __call__(
        self, _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection
    ) -> None:
        for argument in arguments:
            if argument.tokens:
                self.by_key[_key(argument.names)] = _origin(argument.tokens[-1])


def _key(names: Sequence[str]) -> str:
    """What a setting is called in a file."""
    flag = next((name for name in names if name.startswith("--")), "")
    return flag.removeprefix("--").replace("-", "_")


def _origin(token: Any) -> str:
    match token.source:
        case "cli":
            return f"flag {token.keyword}"
        case "env":
            return f"environment {token.keyword}"
        case file:
            return f"file {file}"


def make_config(sort_key: int) -> App:
    """The commands about settings."""
    origins = _Origins()

    def show(
        *,
        settings: Annotated[Settings, Parameter(name="*", validator=check_together)],
        config: Annotated[
            Path | None,
            Parameter(help='TOML file with these settings, such as data_dir = "/data".'),
        ] = None,
        json: AsJson = False,
    ) -> None:
        """Show the settings that `crdtdb serve` would have, and where each of them comes from.

        It takes the flags that serve takes, and looks into the same file and the same environment:
        a flag wins, then the environment, then the file.

        For example:

            crdtdb config show --config /etc/crdtdb.toml
        """
        rows = {
            key: (_plain(getattr(settings, name)), origins.by_key.get(key, _DEFAULT))
            for name, key in _KEYS.items()
        }
        rows["config"] = _plain(config), origins.by_key.get("config", _DEFAULT)
        if json:
            print_json(
                {key: {"value": value, "origin": origin} for key, (value, origin) in rows.items()}
            )
            return
        print_table(
            ("setting", "value", "from"),
            ((key, _text(value), printable(origin)) for key, (value, origin) in rows.items()),
        )

    config = App(name="config", help="Look at the settings.", sort_key=sort_key)
    config.command(show, config=(*SOURCES, origins))
    return config


#: The fields of the settings, and what they are called in a file.
_KEYS: Final = {
    field.name: {"peers": "peer", "allow_hosts": "allow_host"}.get(field.name, field.name)
    for field in fields(Settings)
}


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case list():
            return " ".join(value) or "-"
        case _:
            return printable(str(value))
