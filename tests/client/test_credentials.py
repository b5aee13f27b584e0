"""Whom a client believes, and how it says who it is."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import trustme

from crdtdb_client import AsyncClient, Client, Unreachable

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCrdtdb-Replica: eu-1\r\n"
    b'Content-Length: 19\r\nConnection: close\r\n\r\n{"state":"serving"}'
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@contextmanager
def secured(authority: trustme.CA, connections: int) -> Iterator[tuple[str, list[bytes]]]:
    """A server with a certificate of that authority; gives its URL and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    requests: list[bytes] = []

    def serve() -> None:
        for _ in range(connections):
            plain, _ = listening.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    requests.append(connection.recv(65_536))
                    connection.sendall(ANSWER)
            except (ssl.SSLError, ConnectionError):
                plain.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}", requests
        thread.join()


def test_a_certificate_of_the_given_authority_is_believed(
    authority: trustme.CA, ca_file: Path
) -> None:
    async def readiness(url: str) -> str:
        async with AsyncClient(url, tls_ca=ca_file, bearer="secret") as db:
            return await db.readiness()

    with secured(authority, 2) as (url, requests):
        with Client(url, tls_ca=ca_file, bearer="secret") as db:
            assert db.readiness() == "serving"
        assert asyncio.run(readiness(url)) == "serving"
    assert all(b"\r\nAuthorization: Bearer secret\r\n" in request for request in requests)


def test_any_other_certificate_is_not_and_nothing_is_sent(authority: trustme.CA) -> None:
    refused = pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED")
    with secured(authority, 1) as (url, requests), Client(url, bearer="secret") as db, refused:
        db.counter("shop", "views").increment()
    assert requests == []


def test_a_file_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client("https://eu", tls_ca=tmp_path / "nothing.pem")
