"""Every error of crdtdb, and whose fault it is.

Three families, because that is what a caller needs to know first:

- `CallerError`: the request was wrong; repeating it unchanged will fail again.
- `Unavailable`: the request was fine, this replica cannot serve it now; try later or elsewhere.
- `StartError`: a replica could not be opened; nothing was changed.

The first two are also what the HTTP interface answers: each class is one problem of RFC 9457, its
name the CamelCase of the slug, so that every door raises the same classes.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

__all__ = [
    "PROBLEMS",
    "BadHeader",
    "BadHost",
    "BadRequest",
    "BadToken",
    "Behind",
    "Bootstrapping",
    "CallerError",
    "ConflictingBounds",
    "CrdtdbError",
    "CursorExpired",
    "DamagedStore",
    "DirectoryInUse",
    "Field",
    "Forbidden",
    "Gone",
    "IdempotencyMismatch",
    "IdentityConflict",
    "Internal",
    "InvalidOperation",
    "MethodNotAllowed",
    "NewerFormat",
    "NoRights",
    "NoSpace",
    "OutOfBounds",
    "Overloaded",
    "PeerError",
    "PreconditionFailed",
    "Problem",
    "ReadOnly",
    "StartError",
    "StorageFailed",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnknownRoute",
    "UnknownType",
    "UnsupportedMediaType",
]


class Field(NamedTuple):
    """One part of a request that was wrong: where, why, and the limit it met (if it met one)."""

    field: str
    message: str
    limit: int | str | None = None


class CrdtdbError(Exception):
    """Base of every error that crdtdb raises on purpose."""


class Problem(CrdtdbError):
    """An error with a place in the public contract: a slug, an HTTP status and a title.

    `detail` says what happened and what to do next; `fields` names the parts of the request.
    """

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *fields: Field, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields
        self.retry_after_s = retry_after_s


class CallerError(Problem):
    """The request cannot succeed as it stands."""


class Unavailable(Problem):
    """The request may succeed later, or at another replica."""


class BadRequest(CallerError):
    slug, status, title = "bad-request", 400, "The request cannot be read"


class BadToken(CallerError):
    slug, status, title = "bad-token", 400, "The token is damaged or of another cluster"


class BadHeader(CallerError):
    slug, status, title = "bad-header", 400, "A header cannot be read"


class Unauthorized(CallerError):
    slug, status, title = "unauthorized", 401, "Credentials are missing or unknown"


class Forbidden(CallerError):
    slug, status, title = "forbidden", 403, "Not allowed with these credentials"


class BadHost(CallerError):
    slug, status, title = "bad-host", 403, "The Host header names another machine"


class UnknownType(CallerError):
    slug, status, title = "unknown-type", 404, "No such data type"


class UnknownRoute(CallerError):
    slug, status, title = "unknown-route", 404, "No such address"


class MethodNotAllowed(CallerError):
    slug, status, title = "method-not-allowed", 405, "This address does not take that method"


class OutOfBounds(CallerError):
    slug, status, title = "out-of-bounds", 409, "The bound is reached"


class NoRights(CallerError):
    slug, status, title = "no-rights", 409, "This replica does not hold the rights"


class ConflictingBounds(CallerError):
    slug, status, title = "conflicting-bounds", 409, "Concurrent creations disagree on the bounds"


class IdentityConflict(CallerError):
    slug, status, title = "identity-conflict", 409, "Two replicas claim the same identity"


class Gone(CallerError):
    slug, status, title = "gone", 410, "The element is gone"


class CursorExpired(CallerError):
    slug, status, title = "cursor-expired", 410, "The cursor is too old"


class PreconditionFailed(CallerError):
    slug, status, title = "precondition-failed", 412, "The object changed here since that ETag"


class TooLarge(CallerError):
    slug, status, title = "too-large", 413, "The request is larger than the limit"


class UnsupportedMediaType(CallerError):
    slug, status, title = "unsupported-media-type", 415, "Bodies need Content-Type application/json"


class InvalidOperation(CallerError):
    slug, status, title = "invalid-operation", 422, "Impossible for this type or state"


class IdempotencyMismatch(CallerError):
    slug, status, title = "idempotency-mismatch", 422, "The idempotency key was used before"


class Overloaded(Unavailable):
    slug, status, title = "overloaded", 429, "Too much at once"


class Behind(Unavailable):
    slug, status, title = "behind", 503, "This replica has not seen what the token names"


class Bootstrapping(Unavailable):
    slug, status, title = "bootstrapping", 503, "This replica is taking its first copy"


class ReadOnly(Unavailable):
    slug, status, title = "read-only", 503, "This replica takes no writes now"


class NoSpace(Unavailable):
    slug, status, title = "no-space", 507, "No space left for writes"


class StorageFailed(Unavailable):
    slug, status, title = "storage-failed", 503, "The storage failed"


class Internal(Unavailable):
    slug, status, title = "internal", 500, "A bug in crdtdb"


#: Slug → class, for everything that can reach a user.
PROBLEMS: dict[str, type[Problem]] = {
    problem.slug: problem
    for family in (CallerError, Unavailable)
    for problem in family.__subclasses__()
}


class PeerError(CrdtdbError):
    """A peer sent something that no honest, compatible replica sends. It is refused whole.

    `reason` is a short word for counting (`bad-frame`, `newer-version`, `wrong-cluster`, …).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class StartError(CrdtdbError):
    """A replica could not be opened. Its files are as they were."""


class DirectoryInUse(StartError):
    """Another process has this data directory open."""


class NewerFormat(StartError):
    """The data directory was written by a newer crdtdb."""


class DamagedStore(StartError):
    """The data directory cannot be read as a crdtdb store."""
