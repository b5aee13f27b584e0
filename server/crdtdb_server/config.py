"""The settings of one replica: defaults < TOML file (`--config`) < environment < flags.

Every flag of `crdtdb serve` is a field here; the same name is a key of the file (`data_dir`) and an
environment variable (`CRDTDB_DATA_DIR`). A name that is none of them is an error everywhere: a
misspelt `CRDTDB_PEERS` must not start a replica that silently stays alone.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter, Token
from cyclopts.config import Env, Toml

from crdtdb_client.targets import replica_url
from crdtdb_server.bounds import Bounds
from crdtdb_server.hosts import is_anywhere, is_loopback

__all__ = ["SOURCES", "Settings", "read_host", "read_listen"]

_PREFIX: Final = "CRDTDB_"
#: Variables for other commands, for building images and for tests, and those that Kubernetes sets
#: for a service "crdtdb".
_NOT_OURS: Final = re.compile(
    r"CRDTDB_(URL|TOKEN|BEARER_FILE|BASE_IMAGE|TEST_\w+|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)"
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LISTEN: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")


def read_listen(text: str) -> str:
    """HOST:PORT. Raises ValueError."""
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:7460 or [::1]:7460")
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name: use 1 to 63 of A-Z a-z 0-9 . _ - "
            "and begin with a letter or a digit"
        )
    return text


def read_host(text: str) -> str:
    """A host name or address. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST.fullmatch(text):
            raise ValueError(f"{text!r} is not a host name; give it without port") from None
        return text.lower()


def _one(read: Callable[[str], str]) -> Parameter:
    """An option that is given once, and how to read it."""

    def convert(_kind: object, tokens: Sequence[Token]) -> str:
        return _value(read, tokens[0])

    return Parameter(converter=convert)


def _several(flag: str, read: Callable[[str], str]) -> Parameter:
    """An option that may be repeated; in the environment words, or a JSON list."""

    def convert(_kind: object, tokens: Sequence[Token]) -> tuple[str, ...]:
        return tuple(_value(read, token) for token in tokens)

    return Parameter(flag, converter=convert, json_list=True, negative="", show_default=False)


def _value(read: Callable[[str], str], token: Token) -> str:
    """What a setting says. Raises ValueError, which names the file or variable it stands in."""
    try:
        return read(token.value)
    except ValueError as error:
        place = "" if token.source in ("cli", "env") else f" (in {token.source})"
        raise ValueError(f"{error}{place}") from None


_FLAG: Final = Parameter(negative="", show_default=False)
_BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `crdtdb serve` needs to know."""

    data_dir: Path
    """Directory of this replica's data; made if it is not there."""
    listen: Annotated[str, _one(read_listen)] = "127.0.0.1:7460"
    """HOST:PORT to accept connections on; port 0 takes a free one."""
    replica: Annotated[str | None, _one(_name)] = None
    """Name of this replica; without it a readable random one, kept with the data."""
    region: Annotated[str | None, _one(_name)] = None
    """Label of where this replica runs."""
    cluster: Annotated[str, _one(_name)] = "crdtdb"
    """Name that the replicas of one cluster share."""
    peers: Annotated[tuple[str, ...], _several("--peer", replica_url)] = ()
    """URL of another replica, such as http://us:7460. May be repeated."""
    advertise: Annotated[str | None, _one(replica_url)] = None
    """URL by which others reach this replica, if it is not the one it listens on."""
    allow_hosts: Annotated[tuple[str, ...], _several("--allow-host", read_host)] = ()
    """Further name by which clients may call this server. May be repeated."""
    token_file: Path | None = None
    """File of who may ask: sha256:HEX NAME read|write|admin [bucket,…] a line."""
    cluster_secret_file: Path | None = None
    """File with the secret by which the replicas of this cluster know each other; a second line
    is believed, too, so that another secret can take its place."""
    tls_cert: Path | None = None
    """Certificate chain of this replica (PEM): serve https."""
    tls_key: Path | None = None
    """Private key of that certificate (PEM)."""
    tls_ca: Path | None = None
    """Authorities to believe at https URLs of peers (PEM), instead of the system's. Without a
    cluster secret, replicas with a certificate of their own know each other by these."""
    insecure: Annotated[bool, _FLAG] = False
    """Reach beyond this machine without credentials (test networks only)."""
    allow_fault_injection: Annotated[bool, _FLAG] = False
    """Let clients break the links to other replicas (demonstrations and tests only)."""
    tracing: Annotated[bool, _FLAG] = False
    """Send spans to OpenTelemetry, where the variables OTEL_… say; needs crdtdb[otel]."""
    max_body_bytes: int = _BOUNDS.body_bytes
    """Bytes of the body of one request."""
    max_body_elements: int = _BOUNDS.body_elements
    """Elements of one JSON body: commas and opening brackets outside of strings."""
    max_body_depth: int = _BOUNDS.body_depth
    """Levels that one JSON body nests."""
    max_transaction_operations: int = _BOUNDS.transaction_operations
    """Operations of one transaction."""
    max_page_items: int = _BOUNDS.page_items
    """Entries of one page; who asks for more gets a shorter page."""
    max_connections: int = _BOUNDS.connections
    """Connections, those of other replicas included."""
    max_waiting_writes: int = _BOUNDS.waiting_writes
    """Writes that wait for their commit; further ones are told to come again (429)."""
    max_streams: int = _BOUNDS.streams
    """Streams of changes, exports and backups that are under way."""
    max_requests_per_s: int = _BOUNDS.requests_per_s
    """Requests per second of one token, or of everybody without tokens; 0: any number."""
    max_failed_logins_per_min: int = _BOUNDS.failed_logins_per_min
    """Logins from one address that may fail in a minute, by a token or a cluster secret that is
    not good; beyond, who was not let in from there before waits (429). 0: any number."""

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def bounds(self) -> Bounds:
        """What the server takes of its callers. Raises ValueError, which names the flag."""
        try:
            return Bounds(
                **{bound.name: getattr(self, f"max_{bound.name}") for bound in fields(Bounds)}
            )
        except ValueError as error:
            bound, rest = str(error).split(" ", 1)
            raise ValueError(f"--max-{bound.replace('_', '-')} {rest}") from None

    @property
    def mutual(self) -> bool:
        """Do replicas know each other by certificates, shown in both directions?"""
        return self.cluster_secret_file is None and None not in (self.tls_cert, self.tls_ca)

    def check(self) -> None:
        """Refuse settings that do not go together. Raises ValueError, which says what to do."""
        _ = self.bounds
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together.")
        if self.mutual:
            self._check_urls()
        if self.insecure:
            return
        if not is_loopback(self.host) and self.token_file is None:
            raise ValueError(
                f"--listen {self.listen} would let everyone who reaches this machine read and "
                "write, because no credentials are asked for. Listen on 127.0.0.1, name who may "
                "ask with --token-file, or add --insecure if this is a test network."
            )
        if self.cluster_secret_file is None and not self.mutual:
            self._check_replication()

    def _check_urls(self) -> None:
        """Certificates are shown at https URLs only, and are held against their hosts."""
        urls = [*self.peers, *([] if self.advertise is None else [self.advertise])]
        if plain := [url for url in urls if urlsplit(url).scheme != "https"]:
            raise ValueError(
                f"Without --cluster-secret-file replicas know each other by certificates, which "
                f"{plain[0]} does not show. Give https URLs, or all replicas one secret."
            )
        if self.advertise is None and is_anywhere(self.host):
            raise ValueError(
                f"--listen {self.listen} is no name that a certificate could be for. "
                "Say under which URL others reach this replica, with --advertise."
            )

    def _check_replication(self) -> None:
        """Without a secret, replicas believe whoever speaks their language."""
        hosts = (urlsplit(peer).hostname or "" for peer in self.peers)
        if not is_loopback(self.host):
            place = f"--listen {self.listen} would let everyone who reaches this machine replicate"
        elif far := next((host for host in hosts if not is_loopback(host)), None):
            place = f"Whoever answers as {far} could replicate with this machine"
        else:
            return
        raise ValueError(
            f"{place}. Give all replicas one secret with --cluster-secret-file, or certificates of "
            "one authority with --tls-cert, --tls-key and --tls-ca, or add --insecure if this is a "
            "test network."
        )


# -- where they come from -------------------------------------------------------------------------


def _keys(arguments: ArgumentCollection) -> dict[str, str]:
    """What the settings are called in a file → in the environment."""
    flags = {name for argument in arguments for name in argument.names if name.startswith("--")}
    flags.discard("--json")  # how `config show` prints
    keys = sorted(flag.removeprefix("--").replace("-", "_") for flag in flags)
    return {key: _PREFIX + key.upper() for key in keys}


def _check_environment(
    _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection
) -> None:
    """Refuse variables that look like settings and are none."""
    known = _keys(arguments).values()
    for variable in sorted(os.environ):
        if variable.startswith(_PREFIX) and variable not in known:
            if _NOT_OURS.fullmatch(variable):
                continue
            raise _unknown("environment variable", variable, known)


def _read_file(app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take what the file that `--config` names says. Flags and environment have spoken before."""
    for argument in arguments:
        if "--config" in argument.names and argument.tokens:
            file = Path(argument.tokens[-1].value)
            if not file.is_file():
                raise CycloptsError(msg=f"--config: there is no file {str(file)!r}.")
            source = Toml(file)
            known = _keys(arguments)
            try:
                settings = source.config
            except CycloptsError as error:
                reason = error.__cause__ or error
                raise CycloptsError(msg=f"--config: {file} is not TOML: {reason}.") from error
            for key in settings:
                if key not in known:
                    raise _unknown(f"key in {file}:", key, known)
            # No commands as keys, nor as what keys cannot be: `cluster` is a setting here.
            source(app, (), arguments)


def _unknown(what: str, name: str, known: Iterable[str]) -> CycloptsError:
    return CycloptsError(msg=f"Unknown {what} {name}. There are {', '.join(known)}.")


#: For cyclopts: every source fills in what the ones before it, and the flags, left open.
SOURCES: Final = (_check_environment, Env(_PREFIX, command=False), _read_file)
