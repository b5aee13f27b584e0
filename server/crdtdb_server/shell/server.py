"""Which server a command asks, and as whom: the flags that all those commands share."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from crdtdb.errors import StartError
from crdtdb_client import Client
from crdtdb_client.session import OnBehind
from crdtdb_server.shell.arguments import Url
from crdtdb_server.shell.printing import DEFAULT_URL

__all__ = ["DEFAULT_SERVER", "Server"]

#: Holds the token itself. A flag would show it to everybody who lists processes.
_TOKEN: Final = "CRDTDB_TOKEN"  # noqa: S105 - the name of a variable
_PLAIN: Final = re.compile(r"[!-~]+")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server that a command asks."""

    url: Url = DEFAULT_URL
    bearer_file: Annotated[
        Path | None,
        Parameter(
            env_var="CRDTDB_BEARER_FILE",
            help=f"File that holds the token to ask with; or put the token into {_TOKEN}.",
        ),
    ] = None
    tls_ca: Annotated[
        Path | None,
        Parameter(
            env_var="CRDTDB_TLS_CA",
            help="Authorities to believe at an https URL (PEM), instead of the usual ones.",
        ),
    ] = None

    def client(self, on_behind: OnBehind = "raise") -> Client:
        """A session with the server. Raises StartError for a file that cannot be used."""
        bearer = self._bearer()
        try:
            return Client(self.url, on_behind=on_behind, bearer=bearer, tls_ca=self.tls_ca)
        except OSError as error:
            raise StartError(f"cannot use --tls-ca {self.tls_ca}: {error}") from error

    def _bearer(self) -> str | None:
        file = self.bearer_file
        if file is None and not os.environ.get(_TOKEN):
            return None
        try:
            token = os.environ[_TOKEN] if file is None else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"cannot read --bearer-file {file}: {error}") from error
        token = token.strip()
        if not _PLAIN.fullmatch(token):
            raise StartError(f"{file or _TOKEN} must hold one token, in visible ASCII characters")
        return token


#: The one that a command asks when nothing is said.
DEFAULT_SERVER: Final = Server()
