"""Who asks, and what they may do: what routes require and what callers hold, in the same words."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from crdtdb.errors import Field, Forbidden, shortened

__all__ = ["EVERYBODY", "Access", "Principal"]


class Access(Enum):
    """What a route does to data, hence what its callers must be allowed to do."""

    #: About the server, for anybody: no session, answered in every state.
    OPEN = "open"
    #: From replica to replica: each request proves that it comes from the same cluster.
    PEER = "peer"
    #: How the server does, for any caller it knows: no session, answered in every state.
    STATUS = "status"
    READ = "read"
    WRITE = "write"
    #: Removes or changes more than one object, or the cluster.
    ADMIN = "admin"

    @property
    def is_of_data(self) -> bool:
        """Must the replica have what the caller's session saw?"""
        return self in _OF_DATA


_OF_DATA: Final = (Access.READ, Access.WRITE, Access.ADMIN)
#: What each of a token's words includes.
_INCLUDED: Final = {
    Access.READ: frozenset({Access.STATUS, Access.READ}),
    Access.WRITE: frozenset({Access.STATUS, Access.READ, Access.WRITE}),
    Access.ADMIN: frozenset({Access.STATUS, Access.READ, Access.WRITE, Access.ADMIN}),
}


class Principal(NamedTuple):
    """A caller."""

    name: str
    #: READ, WRITE or ADMIN; each includes those before it.
    scope: Access
    #: The only buckets it may touch; None: all.
    buckets: frozenset[str] | None = None

    def check_scope(self, access: Access) -> None:
        """Raises Forbidden, naming the scope that is missing."""
        if access not in _INCLUDED[self.scope]:
            raise Forbidden(
                f"the token {self.name!r} is for {self.scope.value}; this needs {access.value}",
                Field("Authorization", f"lacks the scope {access.value}", access.value),
            )

    def check_bucket(self, bucket: str | None, field: str) -> None:
        """Raises Forbidden, naming the bucket that is missing; None stands for all of them."""
        if self.buckets is None or bucket in self.buckets:
            return
        known = ", ".join(sorted(self.buckets))
        wanted = "every bucket" if bucket is None else f"the bucket {shortened(bucket)!r}"
        raise Forbidden(
            f"the token {self.name!r} is for {known}; this needs {wanted}",
            Field(field, f"lacks {wanted}", known),
        )


#: The caller of a server that asks for no credentials.
EVERYBODY: Final = Principal("everybody", Access.ADMIN)
