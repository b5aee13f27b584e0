"""TLS: as whom this replica answers, and whom it believes when it calls others."""

from __future__ import annotations

import ssl
from pathlib import Path

from crdtdb.errors import StartError

__all__ = ["calling_context", "listening_context"]


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
