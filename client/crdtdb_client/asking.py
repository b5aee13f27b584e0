"""What both clients are: one session with a cluster, and the terms on which it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from os import PathLike
from ssl import SSLContext
from typing import Self

from crdtdb_client.session import Ack, OnBehind, Session, Terms
from crdtdb_client.transport import trust

__all__ = ["Asking"]


class Asking(ABC):
    """One session with a cluster."""

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        timeout_s: float = 30.0,
        patience_s: float = 5.0,
        on_behind: OnBehind = "raise",
        ack: Ack | None = None,
        wait_s: int | None = None,
        token: str | None = None,
        bearer: str | None = None,
        tls_ca: str | PathLike[str] | None = None,
    ) -> None:
        """`urls`: one replica, or several with the nearest first. Nothing is sent yet.

        - `timeout_s`: for an answer, once a connection stands.
        - `patience_s`: how long to go on after a failure that may pass, pauses included.
        - `on_behind`: when no replica that answers has seen what this session saw, "raise" Behind,
          or "continue" as a new session that may see less than before.
        - `ack`: how many must hold a write on disk before it is answered: "local", a number of
          replicas, "all", or "regions=N". See `Written.acked`.
        - `wait_s`: how long (0 to 60, whole seconds) a replica may wait for that, and to see what
          this session saw; without it, 1 s.
        - `token`: go on with the session of another client (its `token`).
        - `bearer`: the credential. `tls_ca`: a PEM file of whom to believe, for https.

        Raises ValueError for what is not the URL of a replica.
        """
        self._session = Session(
            [urls] if isinstance(urls, str) else urls,
            timeout_s=timeout_s,
            patience_s=patience_s,
            on_behind=on_behind,
            token=token,
            bearer=bearer,
        )
        self._terms = Terms(ack, wait_s)
        self._connect(trust(self._session.urls, tls_ca))

    def with_options(self, *, ack: Ack | None = None, wait_s: int | None = None) -> Self:
        """The same session and connections, with these terms for what is asked through it.

        >>> with Client(url) as db:
        ...     db.with_options(ack="all", wait_s=10).counter("shop", "views").increment()
        Written(changed=True, value=1, size=None, acked=1)
        """
        view = copy(self)
        view._terms = Terms(ack, wait_s)
        return view

    @property
    def token(self) -> str | None:
        """The session token: with it, any client sees at least what this one saw."""
        return self._session.token

    @abstractmethod
    def _connect(self, verify: SSLContext | bool) -> None:
        """Make the connections possible; nothing is sent."""
