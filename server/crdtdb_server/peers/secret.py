"""The cluster secret: each exchange between replicas proves, both ways, that both know it.

Its file may hold two, a line each: the first one proves, both are believed. So replicas can be
given another secret one after the other, and never cease to believe each other.

The proof is an HMAC, so the secret never travels. A request's covers its time, its sender and its
body; an answer's covers the request's proof, too, so that it answers no other. Old requests are
refused; within the window one sent again changes nothing, for taking in frames is idempotent.
"""

from __future__ import annotations

import hmac
import re
from pathlib import Path
from typing import Final

from crdtdb.errors import StartError

__all__ = ["PROOF_HEADER", "ClusterSecret", "Secrets", "Unproven"]

PROOF_HEADER: Final = "Crdtdb-Proof"

#: Clocks of replicas may be so far apart, and an exchange may take so long.
_WINDOW_S: Final = 300
_LEAST_BYTES: Final = 16
#: In force at once: each is tried on the whole body of a request.
_MOST: Final = 2
_ADVICE: Final = "give all replicas one --cluster-secret-file"
_REQUEST: Final = re.compile(r"(?P<at_s>[0-9]{1,12})\.[0-9a-f]{64}")


class Unproven(Exception):
    """Nothing proves that who is at the other end is of this cluster; says why, and what to do."""


class ClusterSecret:
    """What the replicas of one cluster share and nobody else knows."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def prove_request(self, now_s: int, sender: str, encoding: str | None, body: bytes) -> str:
        """The proof that goes along with a request."""
        return f"{now_s}.{self._mac(f'request {now_s}', sender, encoding, body)}"

    def check_request(
        self, proof: str, now_s: int, sender: str, encoding: str | None, body: bytes
    ) -> None:
        """Raises Unproven."""
        at_s = _time_of(proof)
        if not hmac.compare_digest(proof, self.prove_request(at_s, sender, encoding, body)):
            raise Unproven(f"its cluster secret is not the one here; {_ADVICE}")
        if abs(at_s - now_s) > _WINDOW_S:
            raise Unproven(f"its clock is more than {_WINDOW_S} s off from the one here; set both")

    def prove_answer(self, request: str, sender: str, encoding: str | None, body: bytes) -> str:
        """The proof that goes along with the answer to the request proven so."""
        return self._mac(f"answer {request}", sender, encoding, body)

    def check_answer(
        self, proof: str, request: str, sender: str, encoding: str | None, body: bytes
    ) -> None:
        """Raises Unproven."""
        expected = self.prove_answer(request, sender, encoding, body)
        if not hmac.compare_digest(proof.encode("utf-8", "surrogateescape"), expected.encode()):
            raise Unproven("it answered without proof that it knows the cluster secret")

    def _mac(self, purpose: str, sender: str, encoding: str | None, body: bytes) -> str:
        # None of the texts holds a line break, and their number is fixed: one reading only.
        head = f"{purpose}\n{sender}\n{encoding or ''}\n".encode("utf-8", "surrogateescape")
        mac = hmac.new(self._secret, head, "sha256")
        mac.update(body)
        return mac.hexdigest()


class Secrets:
    """The secrets of a file, read again when it changes."""

    def __init__(self, file: Path) -> None:
        """Raises StartError."""
        self._file = file
        self._secrets = _read(file)

    @property
    def first(self) -> ClusterSecret:
        """The one to prove with."""
        return self._secrets[0]

    def reread(self) -> None:
        """From now on, what stands in the file is believed. Raises StartError, changing nothing."""
        self._secrets = _read(self._file)

    def check_request(
        self, proof: str, now_s: int, sender: str, encoding: str | None, body: bytes
    ) -> ClusterSecret:
        """The secret that a request was proven with, to prove the answer with. Raises Unproven."""
        *others, last = self._secrets
        for secret in others:
            expected = secret.prove_request(_time_of(proof), sender, encoding, body)
            if hmac.compare_digest(proof, expected):
                last = secret
        last.check_request(proof, now_s, sender, encoding, body)
        return last


def _time_of(proof: str) -> int:
    match = _REQUEST.fullmatch(proof)
    if match is None:
        raise Unproven(f"it sent no proof that it knows the cluster secret; {_ADVICE}")
    return int(match["at_s"])


def _read(file: Path) -> list[ClusterSecret]:
    """The lines of a file, without white space around. Raises StartError, which quotes none."""
    try:
        secrets = [line.strip() for line in file.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise StartError(f"cannot read the cluster secret {file}: {error}") from error
    if min(map(len, secrets), default=0) < _LEAST_BYTES:
        raise StartError(
            f"the cluster secret in {file} has fewer than {_LEAST_BYTES} bytes; "
            "make one with `openssl rand -hex 32`"
        )
    if len(secrets) > _MOST:
        raise StartError(
            f"{file} holds more than {_MOST} cluster secrets; leave the one in use and the next one"
        )
    return [ClusterSecret(secret) for secret in secrets]
