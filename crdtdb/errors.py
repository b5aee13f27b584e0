"""Every error of crdtdb, and whose fault it is.

Three families, because that is what a caller needs to know first:

- `CallerError`: the request was wrong; repeating it unchanged will fail again.
- `Unavailable`: the request was fine, this replica cannot serve it now; try later or elsewhere.
- `StartError`: a replica could not be opened; nothing was changed.

The first two are also what the HTTP interface answers: each class is one problem of RFC 9457, its
name the CamelCase of the slug, so that every door raises the same classes.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple, Self

__all__ = [
    "ADVICE",
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
    "UnusableBackup",
    "joined",
    "shortened",
]


#: Of a name or value of the caller's that an error repeats.
_SHOWN_CHARACTERS: Final = 64


def shortened(text: str) -> str:
    """What a caller sent, as an error may repeat it: recognisable, and bounded."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def joined(outer: str, inner: str) -> str:
    """Where something is: `inner` within `outer`; either may be empty."""
    if not (outer and inner):
        return outer or inner
    return f"{outer}{inner}" if inner.startswith("[") else f"{outer}.{inner}"


class Field(NamedTuple):
    """One part of a request that was wrong: where, why, and the limit it met (if it met one)."""

    field: str
    message: str
    limit: int | str | None = None


class CrdtdbError(Exception):
    """Base of every error that crdtdb raises on purpose."""


class Problem(CrdtdbError):
    """An error with a place in the public contract: a slug, an HTTP status and a title.

    `detail` says what happened and what to do next; `fields` names the parts of the request. The
    docstring of each says what it means, then what to do: pages under `/problems/` show it.
    """

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *fields: Field, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields
        self.retry_after_s = retry_after_s

    def below(self, place: str) -> Self:
        """The same problem of one part of the request: its fields, if it has any, are in there."""
        fields = [field._replace(field=joined(place, field.field)) for field in self.fields]
        fields = fields or [Field(place, self.detail)]
        return type(self)(self.detail, *fields, retry_after_s=self.retry_after_s)


class CallerError(Problem):
    """The request cannot succeed as it stands."""


class Unavailable(Problem):
    """The request may succeed later, or at another replica."""


class BadRequest(CallerError):
    """The path, the query or the body is not readable, or not of the schema.

    `errors` names the part and the limit it met; `/openapi.json` has every schema.
    """

    slug, status, title = "bad-request", 400, "The request cannot be read"


class BadToken(CallerError):
    """A session token, read context or cursor is not as it was given out, or is another cluster’s.

    Send tokens exactly as they came, to the cluster they came from; or start without one.
    """

    slug, status, title = "bad-token", 400, "The token is damaged or of another cluster"


class BadHeader(CallerError):
    """A header is missing, malformed, or does not go with this request.

    `errors` names the header; leave out what this kind of request does not take.
    """

    slug, status, title = "bad-header", 400, "A header cannot be read"


class Unauthorized(CallerError):
    """The request brings no credentials, or some that this server does not know.

    Send `Authorization: Bearer TOKEN` with a token from this server’s operator.
    """

    slug, status, title = "unauthorized", 401, "Credentials are missing or unknown"


class Forbidden(CallerError):
    """The credentials are good, but they do not allow this.

    Use a token with the scope and bucket that the request needs.
    """

    slug, status, title = "forbidden", 403, "Not allowed with these credentials"


class BadHost(CallerError):
    """The Host header is no name of this server; a page elsewhere may be behind the request.

    Use a name the server goes by, or have its operator add this one with `--allow-host`.
    """

    slug, status, title = "bad-host", 403, "The Host header names another machine"


class UnknownType(CallerError):
    """The address names a data type that this replica does not have.

    `GET /v1` lists the types; a newer crdtdb may have more.
    """

    slug, status, title = "unknown-type", 404, "No such data type"


class UnknownRoute(CallerError):
    """Nothing is served at this address. (An object nobody wrote is no error: it reads as empty.)

    Compare the path with `/docs`; a `/` within a key is written `%2F`.
    """

    slug, status, title = "unknown-route", 404, "No such address"


class MethodNotAllowed(CallerError):
    """There is something at this address, but not for this method.

    The `Allow` header lists the methods there are.
    """

    slug, status, title = "method-not-allowed", 405, "This address does not take that method"


class UnknownReplica(CallerError):
    """The cluster has no member of that name.

    `GET /v1/cluster` lists the members, and who was evicted.
    """

    slug, status, title = "unknown-replica", 404, "No member has this name"


class OutOfBounds(CallerError):
    """The operation would take a bounded counter beyond its bound.

    Nothing was changed. Do less, or wait until others have made room.
    """

    slug, status, title = "out-of-bounds", 409, "The bound is reached"


class NoRights(CallerError):
    """The counter’s bound leaves room, but other replicas hold the rights to it.

    Move rights here with `transfer`, or ask a replica that holds some.
    """

    slug, status, title = "no-rights", 409, "This replica does not hold the rights"


class ConflictingBounds(CallerError):
    """The counter has been created otherwise: before, or by other replicas at the same time.

    Creations at the same time each gave out rights up to a `max`, which together are too many. So
    increments are refused until an operator has chosen: `create` it again, where all of them are
    known, with the bounds to go on with. Bounds that do not conflict stay as they are.
    """

    slug, status, title = "conflicting-bounds", 409, "The counter was created with other bounds"


class IdentityConflict(CallerError):
    """The other side is no peer of this replica: it is itself, a copy of it, or of another cluster.

    Check the peer URLs and the clusters’ names; a copied data directory must not be served.
    """

    slug, status, title = "identity-conflict", 409, "Two replicas claim the same identity"


class Gone(CallerError):
    """The element that the request names was removed, or has not arrived at this replica yet.

    Read the object again and choose a place in what is there now.
    """

    slug, status, title = "gone", 410, "The element is gone"


class CursorExpired(CallerError):
    """Deletes that come after the cursor have been forgotten, so the feed cannot go on there.

    Read all data once, and follow changes from the cursor that came before that.
    """

    slug, status, title = "cursor-expired", 410, "The cursor is too old"


class PreconditionFailed(CallerError):
    """`If-Match` names a state of the object that this replica has no longer.

    Nothing was changed. Read the object again and decide anew.
    """

    slug, status, title = "precondition-failed", 412, "The object changed here since that ETag"


class TooLarge(CallerError):
    """The request, or what it asks for, is more than one request may be.

    `errors` names the limit; do it in parts.
    """

    slug, status, title = "too-large", 413, "The request is larger than the limit"


class UnsupportedMediaType(CallerError):
    """The body is of a kind that this address does not take, or compressed.

    Send JSON with `Content-Type: application/json`, for imports `application/x-ndjson`, as it is.
    """

    slug, status, title = "unsupported-media-type", 415, "Bodies need Content-Type application/json"


class InvalidOperation(CallerError):
    """The request is well-formed, but impossible for this type or in this state.

    `GET /v1` lists what each type can do.
    """

    slug, status, title = "invalid-operation", 422, "Impossible for this type or state"


class IdempotencyMismatch(CallerError):
    """The same idempotency key came with a different request before.

    Nothing was changed. Take a new random key for each new write.
    """

    slug, status, title = "idempotency-mismatch", 422, "The idempotency key was used before"


class Overloaded(Unavailable):
    """This replica has as much under way as it can hold.

    Nothing was changed. Send the request again after `Retry-After` seconds.
    """

    slug, status, title = "overloaded", 429, "Too much at once"


class Behind(Unavailable):
    """The session has seen, elsewhere, what has not reached this replica yet.

    Wait longer with `Prefer: wait=N`, ask the replica of before, or start a new session.
    """

    slug, status, title = "behind", 503, "This replica has not seen what the token names"


class Bootstrapping(Unavailable):
    """A new replica is taking its first copy, and answers nothing before it has one.

    Ask another replica until `/readyz` says 200.
    """

    slug, status, title = "bootstrapping", 503, "This replica is taking its first copy"


class ReadOnly(Unavailable):
    """This replica answers reads, but takes no writes for now.

    Write to another replica, or try again later.
    """

    slug, status, title = "read-only", 503, "This replica takes no writes now"


class Evicted(Unavailable):
    """An operator took this replica out of the cluster. It answers reads, but takes no writes.

    Write to another replica. An operator can take it back with `crdtdb cluster rejoin`; nothing
    that it holds is lost.
    """

    slug, status, title = "evicted", 503, "This replica was evicted"


class NoSpace(Unavailable):
    """The disk, or what the operator set aside of it, is full. Reads go on.

    Nothing was changed. Make room; writes then recover by themselves.
    """

    slug, status, title = "no-space", 507, "No space left for writes"


class StorageFailed(Unavailable):
    """The disk failed to read or write. Nothing is acknowledged that is not on it.

    Ask another replica; this one’s log says what failed.
    """

    slug, status, title = "storage-failed", 503, "The storage failed"


class Internal(Unavailable):
    """crdtdb did something it should not.

    Report it with the request’s id and the server’s log. Whether a write was done is unknown.
    """

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


class UnusableBackup(CrdtdbError):
    """A backup could not be taken, or cannot be restored. Nothing was left half-written."""


class StartError(CrdtdbError):
    """A replica could not be opened. Its files are as they were."""


class DirectoryInUse(StartError):
    """Another process has this data directory open."""


class NewerFormat(StartError):
    """The data directory was written by a newer crdtdb."""


class DamagedStore(StartError):
    """The data directory cannot be read as a crdtdb store."""


#: What to do about a damaged data directory.
ADVICE: Final = (
    "put a backup in its place, or move it away and start with an empty directory: "
    "the replica then takes everything from its peers"
)
