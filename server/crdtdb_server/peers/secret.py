"""The cluster secret: each exchange between replicas proves, both ways, that both know it.

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

__all__ = ["PROOF_HEADER", "ClusterSecret", "Unproven"]

PROOF_HEADER: Final = "Crdtdb-Proof"

#: Clocks of replicas may be so far apart, and an exchange may take so long.
_WINDOW_S: Final = 300
_LEAST_BYTES: Final = 16
_REQUEST: Final = re.compile(r"(?P<at_s>[0-9]{1,12})\.[0-9a-f]{64}")


class Unproven(Exception):
    """Whoever is at the other end does not know the secret of this cluster; says why."""


class ClusterSecret:
    """What the replicas of one cluster share and nobody else knows."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def read(cls, file: Path) -> ClusterSecret:
        """The contents of a file, without white space around. Raises StartError."""
        try:
            secret = file.read_bytes().strip()
        except OSError as error:
            raise StartError(f"cannot read the cluster secret {file}: {error}") from error
        if len(secret) < _LEAST_BYTES:
            raise StartError(
                f"the cluster secret in {file} has fewer than {_LEAST_BYTES} bytes; "
                "make one with `openssl rand -hex 32`"
            )
        return cls(secret)

    def prove_request(self, now_s: int, sender: str, encoding: str | None, body: bytes) -> str:
        """The proof that goes along with a request."""
        return f"{now_s}.{self._mac(f'request {now_s}', sender, encoding, body)}"

    def check_request(
        self, proof: str, now_s: int, sender: str, encoding: str | None, body: bytes
    ) -> None:
        """Raises Unproven."""
        match = _REQUEST.fullmatch(proof)
        if match is None:
            raise Unproven("it sent no proof that it knows the cluster secret")
        at_s = int(match["at_s"])
        if not hmac.compare_digest(proof, self.prove_request(at_s, sender, encoding, body)):
            raise Unproven("its cluster secret is not the one here")
        if abs(at_s - now_s) > _WINDOW_S:
            raise Unproven(f"its clock is more than {_WINDOW_S} s off from the one here")

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
