"""`crdtdb token create | list | revoke`: the file, the secret, and what is refused."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from commands import Run
from crdtdb_server.access import Access, Principal
from crdtdb_server.token_file import read_entries


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "tokens"
    monkeypatch.setenv("CRDTDB_TOKEN_FILE", str(file))
    return file


def test_a_token_is_printed_once_and_its_hash_is_kept(run: Run, file: Path) -> None:
    made = run("token", "create", "app", "write", "--bucket", "shop", "--bucket", "users")
    assert made.code == 0
    secret = made.out.strip()
    assert len(secret) >= 43
    (entry,) = read_entries(file)
    assert entry.hash == sha256(secret.encode()).digest()
    assert entry.principal == Principal("app", Access.WRITE, frozenset({"shop", "users"}))
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in file.read_text() + made.err + run("token", "list").out


def test_other_lines_stay_as_they_were_written(run: Run, file: Path) -> None:
    text = f"# who may ask\n\nsha256:{'AB' * 32}   old  read   # since spring\n"
    file.write_text(text)
    run("token", "create", "new", "admin")
    assert file.read_text().startswith(text)
    listed = run("token", "list")
    new = read_entries(file)[1].hash.hex()[:8]
    assert listed.out == f"old\tread\tall\tabababab…\nnew\tadmin\tall\t{new}…\n"
    assert run("token", "revoke", "new").out == "revoked 1\n"
    assert file.read_text() == text
    assert [one.name for one in file.parent.iterdir()] == ["tokens"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644], ids=oct)
def test_who_could_read_the_file_still_can(run: Run, file: Path, mode: int) -> None:
    """A file of root's that the server's group read was root's alone after a revocation, so that
    the server never heard of it, and did not start again."""
    run("token", "create", "stays", "read")
    file.chmod(mode)
    for change in (("create", "app", "write"), ("revoke", "app")):
        assert run("token", *change).code == 0
        assert file.stat().st_mode & 0o7777 == mode


def test_for_programs(run: Run, file: Path) -> None:
    made = run("token", "create", "app", "read", "--bucket", "shop", "--json").json[0]
    assert made.keys() == {"name", "token"}
    digest = sha256(made["token"].encode()).hexdigest()[:8]
    assert run("token", "list", "--json").json == [
        [{"name": "app", "scope": "read", "buckets": ["shop"], "sha256": digest}]
    ]
    assert run("token", "revoke", "app", "--json").json == [{"name": "app", "revoked": 1}]


def test_a_name_is_given_once(run: Run, file: Path) -> None:
    run("token", "create", "app", "read")
    before = file.read_bytes()
    again = run("token", "create", "app", "write")
    assert (again.code, again.out) == (1, "")
    assert "has a token 'app' already" in again.err
    none = run("token", "revoke", "other")
    assert none.code == 1
    assert "no token 'other'" in none.err
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [("app", "root"), ("a b", "read"), ("app",), ("app", "read", "--bucket", "Shop")],
)
def test_wrong_usage(run: Run, file: Path, arguments: tuple[str, ...]) -> None:
    ran = run("token", "create", *arguments)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert not file.exists()


def test_a_file_with_anything_else_in_it_is_left_alone(run: Run, file: Path) -> None:
    file.write_text("hunter2\n")
    for arguments in (("create", "app", "read"), ("revoke", "app"), ("list",)):
        ran = run("token", *arguments)
        assert (ran.code, ran.out) == (1, "")
        assert "line 1" in ran.err
        assert "hunter2" not in ran.err
    assert file.read_text() == "hunter2\n"
