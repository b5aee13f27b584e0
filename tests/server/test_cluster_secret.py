"""Replicas that know one secret replicate; others are told why not. Over TLS, too."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
import uvloop

from crdtdb import Database
from crdtdb.errors import StartError
from crdtdb.store.memory import MemoryStore
from crdtdb_client import AsyncClient
from crdtdb_server.config import Settings
from crdtdb_server.peers.secret import ClusterSecret, Secrets, Unproven
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import LiveReplica, live
from crdtdb_server.tls import calling_context, listening_context
from livecluster import LiveWire, eventually

SECRET = ClusterSecret(b"a secret of this cluster")


def _written(directory: Path, name: str, secret: str) -> Path:
    file = directory / name
    file.write_text(f"{secret}\n")
    return file


@asynccontextmanager
async def _pair(scheme: str, *settings: dict[str, Any]) -> AsyncIterator[list[LiveReplica]]:
    """Two replicas that name each other as peers."""
    ports = free_ports(2)
    async with AsyncExitStack() as stack:
        replicas: list[LiveReplica] = []
        for name, port, peer, own in zip(("eu", "us"), ports, ports[::-1], settings, strict=True):
            database = Database(MemoryStore(name.encode()), replica=name)
            chosen = Settings(
                data_dir=Path("unused"),
                listen=f"127.0.0.1:{port}",
                peers=(f"{scheme}://127.0.0.1:{peer}",),
                **own,
            )
            replicas.append(await stack.enter_async_context(live(database, chosen)))
        yield replicas


async def test_replicas_of_one_secret_find_together(tmp_path: Path) -> None:
    file = _written(tmp_path, "secret", "one secret for all of us")
    one = {"cluster_secret_file": file}
    async with _pair("http", one, one) as replicas:
        wires = [LiveWire(replica) for replica in replicas]
        await eventually("one cluster", lambda: all(wire.is_whole for wire in wires))


async def test_another_secret_is_said_once_and_shown(tmp_path: Path) -> None:
    secrets = (
        _written(tmp_path, "one", "one secret for all of us"),
        _written(tmp_path, "other", "another secret, by mistake"),
    )
    own = [{"cluster_secret_file": file} for file in secrets]
    with structlog.testing.capture_logs() as logs:
        async with _pair("http", *own) as replicas:
            wire = LiveWire(replicas[0])
            link = replicas[0].network.links[replicas[1].url]
            await eventually("refused", lambda: "cluster secret" in (link.trouble or ""))
            # Further tries are refused likewise.
            tries = replicas[0].network.bytes_sent
            await eventually("tried again", lambda: replicas[0].network.bytes_sent > tries)
            cluster = (await wire.request("GET", "/v1/cluster")).document
            assert "cluster-secret-file" in cluster["troubles"][replicas[1].url]
            assert cluster["stability"]["unmet_peers"] == [replicas[1].url]
    said = [
        log
        for log in logs
        if log.get("endpoint") == replicas[1].url and "cluster secret" in log.get("why", "")
    ]
    assert len(said) == 1
    assert all("by mistake" not in str(log) for log in logs)


async def test_no_secret_is_no_way_in(tmp_path: Path) -> None:
    file = _written(tmp_path, "secret", "one secret for all of us")
    async with _pair("http", {"cluster_secret_file": file}, {}) as replicas:
        link = replicas[1].network.links[replicas[0].url]
        await eventually("refused", lambda: "sent no proof" in (link.trouble or ""))
        link = replicas[0].network.links[replicas[1].url]
        await eventually("not believed", lambda: "without proof" in (link.trouble or ""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proof": ""}, "sent no proof"),
        ({"proof": f"1000.{'0' * 64}"}, "not the one here"),
        ({"sender": "us"}, "not the one here"),
        ({"encoding": "zstd"}, "not the one here"),
        ({"body": b"frame"}, "not the one here"),
        ({"now_s": 1_301}, "its clock is"),
        ({"now_s": 699}, "its clock is"),
    ],
)
def test_a_proof_is_of_one_request(change: dict[str, Any], message: str) -> None:
    proof = SECRET.prove_request(1_000, "eu", None, b"frames")
    sent: dict[str, Any] = {
        "proof": proof,
        "now_s": 1_000,
        "sender": "eu",
        "encoding": None,
        "body": b"frames",
    }
    SECRET.check_request(**sent)
    with pytest.raises(Unproven, match=message):
        SECRET.check_request(**(sent | change))


def test_a_proof_of_an_answer_is_of_one_request() -> None:
    proof = SECRET.prove_answer("request", "eu", None, b"frames")
    SECRET.check_answer(proof, "request", "eu", None, b"frames")
    for wrong in ("", "\udcff", SECRET.prove_answer("other", "eu", None, b"frames")):
        with pytest.raises(Unproven):
            SECRET.check_answer(wrong, "request", "eu", None, b"frames")


@pytest.mark.parametrize("secret", ["", "short", "the first is long enough\nshort"])
def test_a_short_secret_is_refused(tmp_path: Path, secret: str) -> None:
    with pytest.raises(StartError, match="fewer than 16 bytes"):
        Secrets(_written(tmp_path, "secret", secret))


def test_more_than_two_secrets_are_refused(tmp_path: Path) -> None:
    lines = [f"the secret of year {year}" for year in range(3)]
    with pytest.raises(StartError, match="more than 2 cluster secrets") as caught:
        Secrets(_written(tmp_path, "secret", "\n".join(lines)))
    assert "of year" not in str(caught.value)


def test_both_secrets_of_a_file_are_believed_and_the_first_proves(tmp_path: Path) -> None:
    lines = ["the secret of this year", "the secret of last year"]
    secrets = Secrets(_written(tmp_path, "secret", "\n".join(lines)))
    for line in lines:
        theirs = ClusterSecret(line.encode())
        proof = theirs.prove_request(1_000, "eu", None, b"frames")
        mine = secrets.check_request(proof, 1_000, "eu", None, b"frames")
        answered = mine.prove_answer(proof, "us", None, b"frames")
        theirs.check_answer(answered, proof, "us", None, b"frames")
        with pytest.raises(Unproven, match="its clock is"):
            secrets.check_request(proof, 1_301, "eu", None, b"frames")
    proof = secrets.first.prove_request(1_000, "eu", None, b"frames")
    ClusterSecret(lines[0].encode()).check_request(proof, 1_000, "eu", None, b"frames")
    proof = SECRET.prove_request(1_000, "eu", None, b"frames")
    with pytest.raises(Unproven, match="not the one here"):
        secrets.check_request(proof, 1_000, "eu", None, b"frames")


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certified(tmp_path: Path) -> dict[str, Any]:
    """Settings with a certificate for loopback, and its authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / f"{name}.pem" for name in ("tls_cert", "tls_key", "tls_ca")}
    authority.cert_pem.write_to_path(str(files["tls_ca"]))
    certificate.private_key_pem.write_to_path(str(files["tls_key"]))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(files["tls_cert"]), append=True)
    return files


async def _replicate_by_tls(certified: dict[str, Any]) -> None:
    async with _pair("https", certified, certified) as replicas:
        wires = [LiveWire(replica) for replica in replicas]
        await eventually("one cluster", lambda: all(wire.is_whole for wire in wires))
        assert all(replica.url.startswith("https://") for replica in replicas)
        async with AsyncClient(replicas[0].url, tls_ca=certified["tls_ca"]) as db:
            counter = db.counter("shop", "views")
            # On one connection: the fast lane, and by a large body what it hands over.
            assert (await counter.increment(5)).value == 5
            await db.register("shop", "page").set("x" * 200_000)
            assert (await db.register("shop", "page").get()).value == "x" * 200_000
            token = db.token
        async with AsyncClient(
            replicas[1].url, tls_ca=certified["tls_ca"], token=token, wait_s=30
        ) as db:
            assert (await db.counter("shop", "views").get()).value == 5


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_replicas_and_clients_speak_tls(loop: Any, certified: dict[str, Any]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_replicate_by_tls(certified))


async def test_a_peer_of_no_known_authority_is_not_believed(certified: dict[str, Any]) -> None:
    doubtful = {name: certified[name] for name in ("tls_cert", "tls_key")}
    async with _pair("https", certified, doubtful) as replicas:
        link = replicas[1].network.links[replicas[0].url]
        await eventually("refused", lambda: "certificate" in (link.trouble or "").lower())


def test_old_versions_of_tls_are_refused(certified: dict[str, Any]) -> None:
    listening = listening_context(certified["tls_cert"], certified["tls_key"])
    calling = calling_context(certified["tls_ca"])
    assert listening.minimum_version == calling.minimum_version == ssl.TLSVersion.TLSv1_2


def test_certificates_that_cannot_be_used_are_refused(certified: dict[str, Any]) -> None:
    with pytest.raises(StartError, match="cannot use --tls-cert"):
        listening_context(certified["tls_cert"], certified["tls_ca"])
    with pytest.raises(StartError, match="--tls-ca"):
        calling_context(certified["tls_key"].with_name("nowhere"))
