"""Tokens and certificates that change while a server runs."""

from __future__ import annotations

import asyncio
import ssl
import time
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
import trustme

from crdtdb import Database
from crdtdb.errors import StartError
from crdtdb_server import rereading
from crdtdb_server.access import Access, Principal
from crdtdb_server.config import Settings
from crdtdb_server.credentials import Keyring
from crdtdb_server.ports import free_ports
from crdtdb_server.rereading import Reread
from crdtdb_server.serve import live
from crdtdb_server.tls import Tls, expiry_s
from crdtdb_server.token_file import add_token, revoke_tokens
from livecluster import LiveWire, eventually


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rereading, "_INTERVAL_S", 0.01)


async def _status(wire: LiveWire, token: str) -> int:
    headers = [("Authorization", f"Bearer {token}")]
    return (await wire.request("GET", "/v1/buckets", headers=headers)).status


async def test_a_running_server_heeds_new_and_revoked_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    first = add_token(file, Principal("first", Access.READ))
    settings = Settings(
        data_dir=Path("unused"), listen=f"127.0.0.1:{free_ports(1)[0]}", token_file=file
    )
    with Database.in_memory(replica="eu-1") as database:
        async with live(database, settings) as replica:
            wire, keyring = LiveWire(replica), replica.service.options.keyring
            assert keyring is not None
            assert await _status(wire, first) == 200
            second = add_token(file, Principal("second", Access.READ))
            await eventually("second known", lambda: keyring.count == 2)
            assert await _status(wire, second) == 200
            revoke_tokens(file, "first")
            await eventually("first gone", lambda: keyring.count == 1)
            assert (await _status(wire, first), await _status(wire, second)) == (401, 200)
            revoke_tokens(file, "second")  # the last one: nobody may ask any more
            await eventually("second gone", lambda: keyring.count == 0)
            assert await _status(wire, second) == 401


async def _begin(wire: LiveWire, head: str, token: str) -> tuple[StreamReader, StreamWriter]:
    """Send the head of a request that goes on for long."""
    reader, writer = await asyncio.open_connection(wire.address, wire.port)
    fields = f"Host: {wire.address}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(f"{head}\r\n{fields}".encode())
    return reader, writer


async def test_what_is_under_way_ends_with_its_token(tmp_path: Path) -> None:
    """Whoever had a stream open went on to read what others wrote, and an import to write."""
    file = tmp_path / "tokens"
    gone = add_token(file, Principal("gone", Access.WRITE))
    stays = add_token(file, Principal("stays", Access.WRITE))
    settings = Settings(
        data_dir=Path("unused"), listen=f"127.0.0.1:{free_ports(1)[0]}", token_file=file
    )
    path = "/v1/buckets/shop/set/k"
    with Database.in_memory(replica="eu-1") as database:
        async with live(database, settings) as replica:
            wire, keyring = LiveWire(replica), replica.service.options.keyring
            assert keyring is not None
            streams = []
            for token in (gone, stays):
                reader, writer = await _begin(wire, "GET /v1/changes?feed=sse HTTP/1.1", token)
                assert b"changes" in await reader.readuntil(b": changes\n\n")
                streams.append((reader, writer))
            line = b'{"bucket":"shop","type":"set","key":"imported","value":["x"]}\n'
            head = "POST /v1/import HTTP/1.1\r\nTransfer-Encoding: chunked"
            head += "\r\nContent-Type: application/x-ndjson"
            importing, body = await _begin(wire, head, gone)
            body.write(b"%x\r\n%b\r\n" % (len(line), line))

            revoke_tokens(file, "gone")
            await eventually("it is gone", lambda: keyring.count == 1)
            bearer = [("Authorization", f"Bearer {stays}")]
            added = await wire.request("POST", path, {"op": "add", "value": "s"}, headers=bearer)
            assert added.status == 200
            assert b'"s"' in await streams[1][0].readuntil(b'"s"')
            with suppress(ConnectionResetError):
                assert b'"s"' not in await streams[0][0].read()
            body.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(line), line))
            assert (await importing.readline()).startswith(b"HTTP/1.1 401 ")
            assert not database.set("shop", "imported").get().exists
            for writer in (*(writer for _, writer in streams), body):
                writer.close()


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    add_token(file, Principal("first", Access.READ))
    keyring = Keyring.read(file)
    reread = Reread("tokens", [file], lambda: keyring.reread(file))
    file.write_text("half a li")
    with structlog.testing.capture_logs() as logs:
        reread.look()
        reread.look()
    assert [one["log_level"] for one in logs] == ["error"]
    assert "half" not in str(logs)
    assert keyring.count == 1
    file.unlink()
    reread.look()
    assert keyring.count == 1


def test_who_lets_the_server_read_a_file_is_heeded(tmp_path: Path) -> None:
    """Of a file that it could not read, only the time of its last write counted, which `chmod` does
    not move: the server never looked at it again."""
    file = tmp_path / "tokens"
    file.write_text("before")
    read: list[str] = []

    def take() -> None:
        if not file.stat().st_mode & 0o040:
            raise StartError("permission denied")
        read.append(file.read_text())

    reread = Reread("tokens", [file], take)
    file.write_text("after")
    file.chmod(0o600)
    reread.look()
    assert read == []
    file.chmod(0o640)
    reread.look()
    assert read == ["after"]


async def test_a_bug_in_reading_again_is_not_the_last_look(tmp_path: Path) -> None:
    """It ended the task, and no change was seen any more."""
    file, read = tmp_path / "file", []

    def reread() -> None:
        read.append(file.read_text())
        if read == ["b"]:
            raise ZeroDivisionError("a bug")

    file.write_text("a")
    looking = asyncio.create_task(Reread("a file", [file], reread).keep_looking())
    file.write_text("b")
    with structlog.testing.capture_logs() as logs:
        await eventually("it failed", lambda: read[:1] == ["b"])
        file.write_text("cc")
        await eventually("it was read again", lambda: read[1:] == ["cc"])
    looking.cancel()
    assert logs[0]["log_level"] == "error"


# -- certificates ---------------------------------------------------------------------------------


def _write(directory: Path, issued: trustme.LeafCert) -> tuple[Path, Path]:
    cert, key = directory / "cert.pem", directory / "key.pem"
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    cert.write_bytes(chain)
    key.write_bytes(issued.private_key_pem.bytes())
    return cert, key


def _shown(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


async def test_a_renewed_certificate_is_shown_to_the_next_connection(tmp_path: Path) -> None:
    authority = trustme.CA()
    first, second = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    cert, key = _write(tmp_path, first)
    (port,) = free_ports(1)
    settings = Settings(
        data_dir=Path("unused"), listen=f"127.0.0.1:{port}", tls_cert=cert, tls_key=key
    )
    with Database.in_memory(replica="eu-1") as database:
        async with live(database, settings) as replica:
            before = await asyncio.to_thread(_shown, port)
            assert before in first.cert_chain_pems[0].bytes().decode()
            _write(tmp_path, second)
            while await asyncio.to_thread(_shown, port) == before:
                pass
            after = await asyncio.to_thread(_shown, port)
            assert after in second.cert_chain_pems[0].bytes().decode()
            metrics = replica.service.metrics.text().decode()
            assert '\ncrdtdb_certificate_expiry_timestamp_seconds{certificate="own"} ' in metrics


def test_a_key_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert, key = _write(tmp_path, authority.issue_cert("127.0.0.1"))
    tls = Tls(cert, key)
    before = tls.ends_s
    key.write_bytes(authority.issue_cert("127.0.0.1").private_key_pem.bytes())
    with pytest.raises(StartError, match="cannot use --tls-cert"):
        tls.reread()
    assert tls.ends_s is before


def test_a_certificate_that_ends_soon_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, own = trustme.CA(), trustme.CA().issue_cert("127.0.0.1")
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    tls = Tls(*_write(tmp_path, own), ca)
    with structlog.testing.capture_logs() as logs:
        tls.reread()
        assert not logs
        ends_s = min(tls.ends_s.values())
        monkeypatch.setattr(time, "time", lambda: ends_s - 3.5 * 86_400)
        tls.reread()
    assert {(one["log_level"], one["days_left"]) for one in logs} == {("warning", 3)}
    assert {one["certificate"] for one in logs} <= {"own", "authority"}


def test_the_first_certificate_to_end_counts(tmp_path: Path) -> None:
    soon = datetime.now(tz=UTC) + timedelta(days=5)
    authority = trustme.CA()
    chain = (
        authority.cert_pem.bytes()
        + authority.issue_cert("a", not_after=soon).cert_chain_pems[0].bytes()
    )
    assert expiry_s(chain) == soon.replace(microsecond=0).timestamp()
    with pytest.raises(StartError, match="cannot be read"):
        expiry_s(b"no certificate")
