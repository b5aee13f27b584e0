"""Files of secrets and tokens that others of the machine reach."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from crdtdb import Database
from crdtdb_server.access import Access, Principal
from crdtdb_server.config import Settings
from crdtdb_server.exposed import exposed_files
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from crdtdb_server.token_file import add_token

_SECRETS = ("cluster_secret_file", "tls_key")
_OTHERS = ("token_file", "tls_cert", "tls_ca")


@pytest.mark.parametrize("name", [*_SECRETS, *_OTHERS])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o666], ids=oct)
def test_what_others_can_do_with_a_file_is_said(tmp_path: Path, name: str, mode: int) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    found = list(exposed_files(Settings(data_dir=tmp_path, **{name: file})))  # type: ignore[arg-type]
    expected = {0o644: "read" if name in _SECRETS else None, 0o666: "change"}.get(mode)
    assert found == ([] if expected is None else [(file, expected)])


async def test_it_is_said_when_a_replica_starts(tmp_path: Path) -> None:
    tokens, secret = tmp_path / "tokens", tmp_path / "secret"
    add_token(tokens, Principal("ops", Access.ADMIN))
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    secret.chmod(0o604)
    settings = Settings(
        data_dir=tmp_path,
        listen=f"127.0.0.1:{free_ports(1)[0]}",
        token_file=tokens,
        cluster_secret_file=secret,
    )
    with Database.in_memory(replica="eu-1") as database, structlog.testing.capture_logs() as logs:
        async with live(database, settings):
            pass
    (said,) = [one for one in logs if "every user" in one["event"]]
    assert (said["file"], said["log_level"]) == (str(secret), "warning")
    assert "read" in said["event"]
