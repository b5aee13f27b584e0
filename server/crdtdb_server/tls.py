"""TLS: as whom this replica answers, and whom it believes when it calls others."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from crdtdb.errors import StartError

__all__ = ["WARNING_S", "Certificate", "calling_context", "expiry_s", "listening_context"]

_log = structlog.get_logger("crdtdb")

_DAY_S: Final = 86_400
#: A certificate that ends within so long is warned about, every day.
WARNING_S: Final = 21 * _DAY_S


class Certificate:
    """The certificate that a listener shows, exchanged while it listens."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read a certificate chain and its private key, PEM. Raises StartError."""
        self._cert = cert
        self._key = key
        self.context = listening_context(cert, key)
        #: When it ends, in seconds since 1970.
        self.expiry_s = expiry_s(cert.read_bytes())

    @property
    def files(self) -> tuple[Path, Path]:
        return self._cert, self._key

    def reread(self) -> None:
        """Show what stands in the files now to connections to come. Raises StartError.

        A pair that does not go together changes nothing: a half-finished renewal does no harm.
        """
        listening_context(self._cert, self._key)
        expires_s = expiry_s(self._cert.read_bytes())
        self.context.load_cert_chain(self._cert, self._key, password=_no_password)
        self.expiry_s = expires_s
        self._warn()

    async def keep_warning(self) -> None:
        """Warn every day of a certificate that ends soon, until cancelled."""
        while True:
            self._warn()
            await asyncio.sleep(_DAY_S)

    def _warn(self) -> None:
        left_s = self.expiry_s - time.time()
        if left_s < WARNING_S:
            _log.warning(
                "the certificate ends soon; put a new one into its files, which are read again",
                file=str(self._cert),
                days_left=int(left_s // _DAY_S),
            )


def expiry_s(pem: bytes) -> float:
    """When the first certificate of a chain ends, in seconds since 1970. Raises StartError."""
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except ValueError as error:
        raise StartError(f"a certificate cannot be read: {error}") from error


def listening_context(cert: Path, key: Path) -> ssl.SSLContext:
    """For a listener: its certificate chain and private key, PEM. Raises StartError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise StartError(f"cannot use --tls-cert {cert} with --tls-key {key}: {error}") from error
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
