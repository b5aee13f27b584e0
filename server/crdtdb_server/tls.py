"""TLS: as whom this replica answers and calls, and whom it believes; exchanged while it runs.

A certificate can be put in the place of another within an SSLContext, an authority cannot be taken
out of one. So new files make new contexts; a listener, which keeps the context it began with, hands
each connection over to the latest one while the handshake is under way.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakSet

import structlog
from cryptography import x509

from crdtdb.errors import StartError

__all__ = ["WARNING_S", "Tls", "calling_context", "expiry_s", "listening_context"]

_log = structlog.get_logger("crdtdb")

_DAY_S: Final = 86_400
#: A certificate that ends within so long is warned about, every day.
WARNING_S: Final = 21 * _DAY_S


class _Read(NamedTuple):
    """What the files said."""

    listening: ssl.SSLContext | None
    calling: ssl.SSLContext | None
    ends_s: Mapping[str, float]
    #: The authorities, as they stand in their file.
    authorities: bytes


class Tls:
    """The certificate of a replica and the authorities it believes, each if there is one."""

    def __init__(
        self,
        cert: Path | None = None,
        key: Path | None = None,
        ca: Path | None = None,
        *,
        mutual: bool = False,
    ) -> None:
        """Read a certificate chain, its private key, and authorities (PEM). Raises StartError.

        `mutual`: callers may show certificates of the authorities, and this replica shows its own
        when it calls. It takes all three files.
        """
        self._cert, self._key, self._ca = cert, key, ca
        self._mutual = mutual
        self._latest = self._read()
        #: Contexts of listeners that believe the authorities of now.
        self._believing: WeakSet[ssl.SSLContext] = WeakSet()
        #: For a listener; None: it speaks in the clear.
        self.listening = self._latest.listening
        if self.listening is not None:
            self.listening.sni_callback = self._hand_over
            self._believing.add(self.listening)

    @property
    def calling(self) -> ssl.SSLContext | None:
        """For calls of other replicas, as the files are now; None: as is usual on this system."""
        return self._latest.calling

    @property
    def ends_s(self) -> Mapping[str, float]:
        """When what end, in seconds since 1970: `own` (the certificate), `authority`."""
        return self._latest.ends_s

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [file for file in (self._cert, self._key, self._ca) if file is not None]

    def is_believed(self, connection: ssl.SSLObject) -> bool:
        """Was what a caller showed on this connection held against the authorities of now?"""
        return connection.context in self._believing

    def reread(self) -> None:
        """From now on, new connections are held to what stands in the files. Raises StartError.

        Files that do not go together change nothing: a half-finished renewal does no harm.
        """
        before, self._latest = self._latest, self._read()
        if self._latest.authorities != before.authorities:
            self._believing.clear()
        if self._latest.listening is not None:
            self._believing.add(self._latest.listening)
        self._warn()

    async def keep_warning(self) -> None:
        """Warn every day of what ends soon, until cancelled."""
        while True:
            self._warn()
            await asyncio.sleep(_DAY_S)

    def _read(self) -> _Read:
        ends_s: dict[str, float] = {}
        listening = calling = None
        authorities = b""
        if self._cert is not None and self._key is not None:
            listening = listening_context(self._cert, self._key, self._ca if self._mutual else None)
            ends_s["own"] = expiry_s(_bytes(self._cert))
        if self._ca is not None:
            calling = calling_context(self._ca)
            authorities = _bytes(self._ca)
            ends_s["authority"] = expiry_s(authorities)
        if self._mutual:
            assert calling is not None
            assert self._cert is not None
            calling.load_cert_chain(self._cert, self._key, password=_no_password)
        return _Read(listening, calling, ends_s, authorities)

    def _hand_over(self, connection: ssl.SSLObject, *_: object) -> None:
        latest = self._latest.listening
        if latest is not None:
            connection.context = latest

    def _warn(self) -> None:
        for what, end_s in self.ends_s.items():
            left_s = end_s - time.time()
            if left_s < WARNING_S:
                _log.warning(
                    "a certificate ends soon; put a new one into its file, which is read again",
                    certificate=what,
                    file=str(self._cert if what == "own" else self._ca),
                    days_left=int(left_s // _DAY_S),
                )


def expiry_s(pem: bytes) -> float:
    """When the first of some certificates ends, in seconds since 1970. Raises StartError."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise StartError(f"a certificate cannot be read: {error}") from error
    return min(one.not_valid_after_utc for one in found).timestamp()


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartError(f"cannot read {file}: {error}") from error


def listening_context(cert: Path, key: Path, ca: Path | None = None) -> ssl.SSLContext:
    """For a listener: its certificate chain and private key, PEM. Raises StartError.

    With `ca`, callers may show a certificate of these authorities; one of others ends the
    handshake. Who shows none is a client, whose token is looked at.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise StartError(f"cannot use --tls-cert {cert} with --tls-key {key}: {error}") from error
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except OSError as error:
            raise StartError(f"cannot use --tls-ca {ca}: {error}") from error
        context.verify_mode = ssl.CERT_OPTIONAL
        # A session that is taken up again would bring along what was believed when it began.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def calling_context(ca: Path) -> ssl.SSLContext:
    """For links to peers: believe the authorities in `ca` (PEM). Raises StartError."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise StartError(f"cannot use --tls-ca {ca}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal, which a server does not have."""
    raise ValueError("the key is encrypted; give one that is not, readable by this user only")
