"""`crdtdb token create | list | revoke`: who may ask a server that has this token file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from crdtdb import address
from crdtdb.errors import BadRequest
from crdtdb_server.access import Access, Principal
from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import note, print_json, print_table
from crdtdb_server.token_file import add_token, check_name, read_entries, revoke_tokens

__all__ = ["create", "list_", "revoke"]


def _read_name(_kind: object, tokens: Sequence[Token]) -> str:
    check_name(tokens[0].value)
    return tokens[0].value


def _read_buckets(_kind: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    for token in tokens:
        try:
            address.check_bucket(token.value)
        except BadRequest as error:
            raise ValueError(error.detail) from None
    return tuple(token.value for token in tokens)


TokenFile = Annotated[
    Path,
    Parameter(env_var="CRDTDB_TOKEN_FILE", help="The file that `serve` has as --token-file."),
]
Name = Annotated[
    str, Parameter(name="NAME", converter=_read_name, help="What the token is called in messages.")
]


def create(
    name: Name,
    scope: Annotated[
        Literal["read", "write", "admin"],
        Parameter(name="SCOPE", help="What it allows; each includes the ones before it."),
    ],
    /,
    *,
    bucket: Annotated[
        tuple[str, ...],
        Parameter(
            converter=_read_buckets,
            negative="",
            show_default=False,
            help="Only this bucket. May be repeated; without it, all buckets.",
        ),
    ] = (),
    token_file: TokenFile,
    json: AsJson = False,
) -> None:
    """Make a token and print it: the only time, for the file keeps its hash alone.

    The file is made if it is not there, for its owner's eyes only. A server that has it takes the
    token from the next second on.

    For example:

        crdtdb token create app write --bucket shop --bucket users --token-file tokens > app.token
    """
    buckets = frozenset(bucket) or None
    secret = add_token(token_file, Principal(name, Access(scope), buckets))
    if json:
        print_json({"name": name, "token": secret})
        return
    print(secret)
    note(f"({name} may {scope}; the token is shown this once)")


def list_(*, token_file: TokenFile, json: AsJson = False) -> None:
    """Show who may ask: names, scopes and buckets, and how each token's hash begins."""
    rows: list[dict[str, Any]] = [
        {
            "name": entry.principal.name,
            "scope": entry.principal.scope.value,
            "buckets": None if entry.principal.buckets is None else sorted(entry.principal.buckets),
            "sha256": entry.hash.hex()[:8],
        }
        for entry in read_entries(token_file)
    ]
    if json:
        print_json(rows)
        return
    print_table(
        ("name", "scope", "buckets", "sha256"),
        (
            (
                row["name"],
                row["scope"],
                "all" if row["buckets"] is None else ",".join(row["buckets"]),
                f"{row['sha256']}…",
            )
            for row in rows
        ),
    )


def revoke(name: Name, /, *, token_file: TokenFile, json: AsJson = False) -> None:
    """Take the tokens of a name out of the file: within a second, servers know them no more."""
    count = revoke_tokens(token_file, name)
    if json:
        print_json({"name": name, "revoked": count})
    else:
        print(f"revoked {count}")
