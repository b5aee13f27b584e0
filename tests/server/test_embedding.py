"""`serve_in_thread`: a database that a program has open, as a live replica."""

from __future__ import annotations

import doctest
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import crdtdb_server.embedding
from crdtdb import Database
from crdtdb.errors import NoSpace, StartError
from crdtdb_client import Client
from crdtdb_server import ServerThread, serve_in_thread
from crdtdb_server.ports import free_ports
from processes import Replica, until


@contextmanager
def _pair(directory: Path) -> Iterator[tuple[Database, Database]]:
    """Two databases of this process, each a peer of the other."""
    ports = free_ports(2)
    with (
        Database.open(directory / "eu", replica="eu-1", region="eu") as eu,
        Database.open(directory / "us", replica="us-1", region="us") as us,
        serve_in_thread(eu, listen=f"127.0.0.1:{ports[0]}", peers=[f"http://127.0.0.1:{ports[1]}"]),
        serve_in_thread(us, listen=f"127.0.0.1:{ports[1]}", peers=[f"http://127.0.0.1:{ports[0]}"]),
    ):
        yield eu, us


def test_two_databases_of_one_program_replicate(tmp_path: Path) -> None:
    with _pair(tmp_path) as (eu, us):
        eu.counter("shop", "views").increment(5)
        us.counter("shop", "views").increment(2)
        us.set("shop", "cart").add("pear")
        until("level", lambda: eu.digest() == us.digest() and eu.set("shop", "cart").size() == 1)
        assert eu.counter("shop", "views").get().value == 7
        # A follower in the program sees what came from the peer.
        seen = eu.changes("shop", "set", include_value=True)
        assert next(seen).member == "pear"


def test_with_a_server_process_over_its_restart(tmp_path: Path) -> None:
    mine, theirs = free_ports(2)
    with (
        Replica("us-1", theirs, [mine], tmp_path) as other,
        Database.open(tmp_path / "laptop", replica="laptop") as db,
        serve_in_thread(db, listen=f"127.0.0.1:{mine}", peers=[other.url]) as server,
    ):
        other.until_ready()
        counter = db.counter("t", "views")
        counter.increment(5)
        until("it came there", lambda: other.value("counter/views") == 5)
        other.kill()
        counter.increment()
        other.start().until_ready()
        other.post("counter/views", {"op": "increment"})
        until("both steps, here", lambda: counter.get().value == 7)
        until("both steps, there", lambda: other.value("counter/views") == 7)
        with Client(server.url) as client:
            assert client.counter("t", "views").get().value == 7


def test_a_commit_waits_for_nobody_when_the_peer_is_away(tmp_path: Path) -> None:
    with (
        Database.open(tmp_path, replica="laptop") as db,
        serve_in_thread(db, listen="127.0.0.1:0", peers=["http://127.0.0.1:1"]),
    ):
        assert db.counter("shop", "views").increment().value == 1


def test_the_program_and_its_clients_write_at_once(tmp_path: Path) -> None:
    with (
        Database.open(tmp_path, replica="laptop") as db,
        serve_in_thread(db, listen="127.0.0.1:0") as server,
        ThreadPoolExecutor() as pool,
    ):

        def program() -> None:
            for _ in range(50):
                db.counter("shop", "views").increment()

        def client() -> None:
            with Client(server.url) as client:
                for _ in range(50):
                    client.counter("shop", "views").increment()

        done = [pool.submit(work) for work in (program, client) * 3]
        for one in done:
            one.result()
        assert db.counter("shop", "views").get().value == 300


def test_a_write_gets_through_whenever_the_server_comes_or_goes(tmp_path: Path) -> None:
    with Database.open(tmp_path, replica="laptop") as db, ThreadPoolExecutor() as pool:
        enough = Event()

        def write() -> int:
            count = 0
            while not enough.is_set():
                db.counter("shop", "views").increment()
                count += 1
            return count

        writing = [pool.submit(write) for _ in range(4)]
        for _ in range(5):
            with serve_in_thread(db, listen="127.0.0.1:0") as server, Client(server.url) as client:
                client.counter("shop", "clients").increment()
        enough.set()
        written = sum(one.result() for one in writing)
        assert db.counter("shop", "views").get().value == written
        assert db.counter("shop", "clients").get().value == 5


def test_mistakes_are_the_programs_own_as_without_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Database.in_memory() as db, serve_in_thread(db, listen="127.0.0.1:0"):

        def full(_: Any) -> Any:
            raise NoSpace("the disk is full")

        monkeypatch.setattr(db.engine, "commit", full)
        with pytest.raises(NoSpace):
            db.counter("shop", "views").increment()


def test_closing_the_database_ends_its_server() -> None:
    db = Database.in_memory()
    server = serve_in_thread(db, listen="127.0.0.1:0")
    db.close()
    port = int(server.url.rpartition(":")[2])
    with (
        pytest.raises(ConnectionRefusedError),
        closing(socket.create_connection(("127.0.0.1", port))),
    ):
        pass
    server.stop()


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"listen": "0.0.0.0:0"}, "--token-file"),
    ({"listen": "nowhere"}, "not HOST:PORT"),
    ({"listen": "192.0.2.1:0", "insecure": True}, "cannot listen on 192.0.2.1:0"),
    ({"peers": ["http://far.example:7460"]}, "--cluster-secret-file"),
    ({"peers": ["ftp://x"]}, "not the URL of a replica"),
    ({"tls_cert": "cert.pem"}, "go together"),
    ({"token_file": "/nowhere/tokens"}, "/nowhere/tokens"),
    ({"cluster_secret_file": "/nowhere/secret"}, "/nowhere/secret"),
]


@pytest.mark.parametrize(("settings", "said"), BAD_SETTINGS)
def test_what_cannot_begin_is_raised_here_and_the_database_goes_on(
    settings: dict[str, Any], said: str
) -> None:
    with Database.in_memory() as db:
        with pytest.raises(StartError, match=said):
            serve_in_thread(db, **{"listen": "127.0.0.1:0", **settings})
        _goes_on(db)


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with Database.in_memory() as db, socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(StartError, match="cannot listen on"):
            serve_in_thread(db, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        _goes_on(db)


def test_a_database_is_served_once() -> None:
    with Database.in_memory() as db, serve_in_thread(db, listen="127.0.0.1:0"):
        with pytest.raises(StartError, match="served already"):
            serve_in_thread(db, listen="127.0.0.1:0")
        _goes_on(db)


def _goes_on(db: Database) -> None:
    before = db.counter("shop", "views").get().value
    assert db.counter("shop", "views").increment().value == before + 1


def test_the_example_runs() -> None:
    names = {"serve_in_thread": serve_in_thread}
    results = doctest.testmod(crdtdb_server.embedding, extraglobs=names)
    assert results.attempted
    assert not results.failed


def test_its_name_is_where_the_documentation_says() -> None:
    assert isinstance(ServerThread, type)
    with pytest.raises(AttributeError):
        _ = crdtdb_server.nothing
