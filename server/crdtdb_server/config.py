"""The settings of one replica: defaults < TOML file (`--config`) < environment < flags.

Every flag of `crdtdb serve` is a field here; the same name is a key of the file (`data_dir`) and an
environment variable (`CRDTDB_DATA_DIR`). A name that is none of them is an error everywhere: a
misspelt `CRDTDB_PEERS` must not start a replica that silently stays alone.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter, Token
from cyclopts.config import Env, Toml

from crdtdb_client.targets import replica_url
from crdtdb_server.hosts import is_loopback

__all__ = ["SOURCES", "Listen", "Settings"]

_PREFIX: Final = "CRDTDB_"
#: Variables that are for other commands, and those that Kubernetes sets for a service "crdtdb".
_NOT_OURS: Final = re.compile(r"CRDTDB_(URL|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LISTEN: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")


class Listen(NamedTuple):
    """Where to accept connections. Port 0 takes any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listen(text: str) -> Listen:
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:7460 or [::1]:7460")
    return Listen(match["host"].strip("[]"), int(match["port"]))


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name: use 1 to 63 of A-Z a-z 0-9 . _ - "
            "and begin with a letter or a digit"
        )
    return text


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST.fullmatch(text):
            raise ValueError(f"{text!r} is not a host name; give it without port") from None
        return text.lower()


def _each(read: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], Any]:
    """A converter of cyclopts, for options that may be given more than once."""

    def convert(kind: Any, tokens: Sequence[Token]) -> Any:
        return tuple(read(token.value) for token in tokens)

    return convert


def _one(read: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], Any]:
    """A converter of cyclopts, for options that are given once."""

    def convert(kind: Any, tokens: Sequence[Token]) -> Any:
        return read(tokens[0].value)

    return convert


_AS_NAME: Final = Parameter(converter=_one(_name))
_FLAG: Final = Parameter(negative="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `crdtdb serve` needs to know."""

    data_dir: Path
    """Directory of this replica's data; made if it is not there."""
    listen: Annotated[
        Listen,
        Parameter(converter=_one(_listen), n_tokens=1, accepts_keys=False, show_default=str),
    ] = Listen("127.0.0.1", 7460)
    """HOST:PORT to accept connections on; port 0 takes a free one."""
    replica: Annotated[str | None, _AS_NAME] = None
    """Name of this replica. [default: a readable random one, kept with the data]"""
    region: Annotated[str | None, _AS_NAME] = None
    """Label of where this replica runs."""
    cluster: Annotated[str, _AS_NAME] = "crdtdb"
    """Replicas of one cluster share its name."""
    peers: Annotated[
        tuple[str, ...],
        Parameter(
            name="--peer",
            converter=_each(replica_url),
            json_list=True,
            negative="",
            show_default=False,
        ),
    ] = ()
    """URL of another replica, such as http://us:7460. Repeat it for more."""
    advertise: Annotated[str | None, Parameter(converter=_one(replica_url))] = None
    """URL under which other replicas reach this one, if it is not the --listen address."""
    allow_hosts: Annotated[
        tuple[str, ...],
        Parameter(
            name="--allow-host",
            converter=_each(_host),
            json_list=True,
            negative="",
            show_default=False,
        ),
    ] = ()
    """Further host name by which clients may call this server. Repeat it for more."""
    insecure: Annotated[bool, _FLAG] = False
    """Listen beyond this machine although nobody has to authenticate (test networks only)."""
    allow_fault_injection: Annotated[bool, _FLAG] = False
    """Let clients break the links to other replicas (demonstrations and tests only)."""

    def check(self) -> None:
        """Refuse settings that do not go together. Raises ValueError, which says what to do."""
        if not is_loopback(self.listen.host) and not self.insecure:
            raise ValueError(
                f"--listen {self.listen} would let everyone who reaches this machine read and "
                "write, because no credentials are asked for. Listen on 127.0.0.1, or add "
                "--insecure if this is a test network."
            )


# -- where they come from ---------------------------------------------------------------------------


def _known_variables(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse variables that look like settings and are none."""
    known = {
        _PREFIX + name.removeprefix("--").replace("-", "_").upper()
        for argument in arguments
        for name in argument.names
    }
    for variable in sorted(os.environ):
        if variable.startswith(_PREFIX) and variable not in known:
            if _NOT_OURS.fullmatch(variable):
                continue
            raise CycloptsError(
                msg=f"Unknown environment variable {variable}. There are {', '.join(sorted(known))}."
            )


def _file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take what the file that `--config` names says. Flags and environment have spoken before."""
    for argument in arguments:
        if "--config" in argument.names and argument.tokens:
            file = Path(argument.tokens[-1].value)
            if not file.is_file():
                raise CycloptsError(msg=f"--config: there is no file {str(file)!r}.")
            Toml(file, use_commands_as_keys=False)(app, commands, arguments)


#: For cyclopts: every source fills in what the ones before it, and the flags, left open.
SOURCES: Final = (_known_variables, Env(_PREFIX, command=False), _file)
