"""Replicas that know each other by certificates, and how certificates, authorities and the secret
are exchanged while replicas run. Real TLS on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
import uvloop

from crdtdb import Database
from crdtdb.causal import VersionVector
from crdtdb.replication.members import Member
from crdtdb.replication.messages import Sender
from crdtdb.store.memory import MemoryStore
from crdtdb_client import AsyncClient
from crdtdb_server import rereading
from crdtdb_server.config import Settings
from crdtdb_server.peers.certified import Certified
from crdtdb_server.peers.envelope import PATH, SENDER_HEADER, seal_body, seal_sender
from crdtdb_server.peers.secret import ClusterSecret, Secrets, Unproven
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import LiveReplica, live
from crdtdb_server.tls import Tls
from livecluster import LiveWire, eventually

EU, US = "127.0.0.1", "localhost"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rereading, "_INTERVAL_S", 0.01)


class Files:
    """The TLS files of one replica."""

    def __init__(self, directory: Path, host: str) -> None:
        directory.mkdir()
        self.cert, self.key, self.ca = (
            directory / name for name in ("cert.pem", "key.pem", "ca.pem")
        )
        self._host = host

    def show(self, authority: trustme.CA, *names: str) -> Files:
        """From now on a certificate of this authority."""
        issued = authority.issue_cert(*(names or (self._host,)))
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.cert.write_bytes(chain)
        return self

    def believe(self, *authorities: trustme.CA) -> Files:
        """From now on whoever these vouch for."""
        self.ca.write_bytes(b"".join(authority.cert_pem.bytes() for authority in authorities))
        return self

    @property
    def settings(self) -> dict[str, Any]:
        return {"tls_cert": self.cert, "tls_key": self.key, "tls_ca": self.ca}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def eu_files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path / "eu", EU).show(authority).believe(authority)


@pytest.fixture
def us_files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path / "us", US).show(authority).believe(authority)


@asynccontextmanager
async def _replica(
    name: str, host: str, port: int, *peers: str, **settings: Any
) -> AsyncIterator[LiveReplica]:
    database = Database(MemoryStore(name.encode()), replica=name)
    chosen = Settings(
        data_dir=Path("unused"), listen=f"{host}:{port}", peers=tuple(peers), **settings
    )
    async with live(database, chosen) as replica:
        yield replica


@asynccontextmanager
async def _pair(
    eu: dict[str, Any], us: dict[str, Any], *, known: bool = True, scheme: str = "https"
) -> AsyncIterator[tuple[LiveReplica, LiveReplica]]:
    """Two replicas at two hosts; `known`: the first one names the second as a peer, too."""
    ports = free_ports(2)
    urls = [f"{scheme}://{host}:{port}" for host, port in zip((EU, US), ports, strict=True)]
    async with (
        _replica("eu", EU, ports[0], *urls[1:] * known, **eu) as first,
        _replica("us", US, ports[1], urls[0], **us) as second,
    ):
        yield first, second


def _url(replica: LiveReplica) -> str:
    """Of the host that its certificate names."""
    return replica.network.me.endpoint


async def _whole(*replicas: LiveReplica) -> None:
    wires = [LiveWire(replica) for replica in replicas]
    await eventually("one cluster", lambda: all(wire.is_whole for wire in wires))


async def _trouble(replica: LiveReplica, text: str) -> None:
    """The link of a replica that has one, says so."""

    def says() -> bool:
        return any(text in (link.trouble or "") for link in replica.network.links.values())

    await eventually(text, says)


async def _replicates(source: LiveReplica, target: LiveReplica, ca: Path) -> None:
    """What a client, who has no certificate, writes at the one is read at the other."""
    async with AsyncClient(_url(source), tls_ca=ca) as db:
        value = (await db.counter("shop", "views").increment(1)).value
        token = db.token
    async with AsyncClient(_url(target), tls_ca=ca, token=token, wait_s=30) as db:
        assert (await db.counter("shop", "views").get()).value == value


async def _meet(eu: Files, us: Files) -> None:
    async with _pair(eu.settings, us.settings) as replicas:
        await _whole(*replicas)
        await _replicates(*replicas, eu.ca)
        assert all(link.trouble is None for link in replicas[0].network.links.values())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_replicas_of_one_authority_find_together(
    loop: Any, eu_files: Files, us_files: Files
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_meet(eu_files, us_files))


async def test_no_certificate_is_no_way_in(eu_files: Files, us_files: Files) -> None:
    clients = us_files.settings | {"tls_cert": None, "tls_key": None}
    async with _pair(eu_files.settings, clients, known=False) as (eu, us):
        await _trouble(us, "showed no certificate; start it with --tls-cert")
        assert eu.network.refusals["unproven"]
        assert not eu.network.replication.peers


async def test_a_secret_is_no_certificate(eu_files: Files, us_files: Files, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("one secret for all of us")
    other = us_files.settings | {"cluster_secret_file": file}
    async with _pair(eu_files.settings, other, known=False) as (eu, us):
        await _trouble(us, "without --cluster-secret-file")
        assert not eu.network.replication.peers


async def test_another_authority_is_not_believed(eu_files: Files, us_files: Files) -> None:
    us_files.show(trustme.CA())
    async with _pair(eu_files.settings, us_files.settings) as (eu, us):
        await _trouble(us, "it may not believe this replica's certificate")
        await _trouble(eu, "certificate verify failed")
        assert not eu.network.replication.peers


async def test_a_certificate_of_another_name_is_not_believed(
    eu_files: Files, us_files: Files, authority: trustme.CA
) -> None:
    us_files.show(authority, "*.example", "elsewhere.example")
    async with _pair(eu_files.settings, us_files.settings) as (eu, us):
        await _trouble(us, "its certificate names *.example, elsewhere.example, not localhost")
        await _trouble(eu, "ertificate")  # each loop says in its own words that no name fits
        assert not eu.network.replication.peers


async def test_who_was_not_named_waits_for_an_admin(eu_files: Files, us_files: Files) -> None:
    async with _pair(eu_files.settings, us_files.settings, known=False) as (eu, us):
        await _trouble(us, f"an admin can add it: crdtdb cluster add {_url(us)}")
        async with AsyncClient(_url(eu), tls_ca=eu_files.ca) as db:
            assert not eu.network.replication.peers
            await db.add_member(_url(us))
        await _whole(eu, us)
        await _replicates(us, eu, eu_files.ca)


class Connection:
    """A TLS connection on which a certificate was shown."""

    def __init__(self, tls: Tls, *names: tuple[str, str]) -> None:
        self.context = tls.listening
        self._names = names

    def getpeercert(self) -> dict[str, Any]:
        return {"subjectAltName": self._names}


ONE, TWO = Member(1, "eu", "", "https://eu.example:7460"), Member(2, "us", "", "https://[::1]")
MEMBERS = {1: ONE, 2: TWO}


@pytest.mark.parametrize(
    ("incarnation", "endpoint", "names", "message"),
    [
        (1, "https://eu.example:1", ["EU.example"], None),
        (2, "https://[::1]:7460", ["0:0:0:0:0:0:0:1"], None),
        (9, "https://eu.example", ["eu.example"], None),  # as after a restore
        (1, "https://named.example", ["named.example"], None),
        (1, "https://[::1]", ["::1"], "nor the member it says"),  # us, in the name of eu
        (3, "https://new.example", ["new.example"], "nor the member it says"),
        (1, "https://eu.example", ["us.example"], "its certificate names us.example"),
        (1, "https://eu.example", ["*.example"], "its certificate names"),
        (1, "", ["eu.example"], "--advertise"),
        (1, "https://[eu", ["eu.example"], "--advertise"),
        (1, "https://eu.example", [], "showed no certificate"),
    ],
)
def test_who_speaks_is_held_to_its_certificate(
    eu_files: Files, incarnation: int, endpoint: str, names: list[str], message: str | None
) -> None:
    tls = Tls(eu_files.cert, eu_files.key, eu_files.ca, mutual=True)
    certified = Certified(tls, ["https://named.example:7460"])
    kinds = [("IP Address" if ":" in name else "DNS", name) for name in names]
    connection = cast(ssl.SSLObject, Connection(tls, *kinds))
    sender = Sender("crdtdb", incarnation, "x", "", endpoint, False)
    if message is None:
        certified.check(sender, connection, MEMBERS)
    else:
        with pytest.raises(Unproven) as caught:
            certified.check(sender, connection, MEMBERS)
        assert message in str(caught.value)


def test_nobody_is_called_in_the_clear(eu_files: Files) -> None:
    certified = Certified(Tls(eu_files.cert, eu_files.key, eu_files.ca, mutual=True), [])
    certified.check_call("https://us.example")
    with pytest.raises(Unproven, match="must be https"):
        certified.check_call("http://us.example")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peers": ("https://us.example", "http://ap.example")}, "http://ap.example does not show"),
        ({"advertise": "http://eu.example"}, "http://eu.example does not show"),
        ({"listen": "0.0.0.0:7460"}, "--advertise"),
        ({"tls_ca": None}, "one secret with --cluster-secret-file, or certificates"),
    ],
)
def test_settings_that_certificates_cannot_prove_are_refused(
    change: dict[str, Any], message: str
) -> None:
    files = {name: Path(name) for name in ("tls_cert", "tls_key", "tls_ca", "token_file")}
    settings: dict[str, Any] = {
        "data_dir": Path("unused"),
        "listen": "eu.example:7460",
        "peers": ("https://us.example",),
        **files,
    }
    Settings(**settings).check()
    with pytest.raises(ValueError, match=message):
        Settings(**(settings | change)).check()


# -- exchanged while they run ---------------------------------------------------------------------


async def test_authorities_are_exchanged_while_replicas_run(
    eu_files: Files, us_files: Files, authority: trustme.CA, tmp_path: Path
) -> None:
    files = (eu_files, us_files)
    next_authority = trustme.CA()
    async with _pair(eu_files.settings, us_files.settings) as replicas:
        await _whole(*replicas)
        raw = await _Raw.connect(replicas[0], us_files)
        assert await raw.ask(replicas[1]) == 200

        for one in files:
            one.believe(authority, next_authority)
        await asyncio.gather(*(_believes(replica, next_authority) for replica in replicas))
        for one in files:
            one.show(next_authority)
        for one in files:
            one.believe(next_authority)
        await asyncio.gather(*(_only_believes(replica, next_authority) for replica in replicas))
        await _replicates(*replicas, eu_files.ca)
        await _replicates(*replicas[::-1], eu_files.ca)

        # A connection from before, and a certificate of before.
        assert await raw.ask(replicas[1]) == 403
        raw.close()
        old = Files(tmp_path / "old", US).show(authority).believe(next_authority)
        raw = await _Raw.connect(replicas[0], old)
        assert await raw.ask(replicas[1]) == 0
        raw.close()


def _subjects(replica: LiveReplica) -> set[bytes]:
    """The authorities that a replica believes when it calls, as DER."""
    calling = replica.network.trust.calling
    assert calling is not None
    return set(calling.get_ca_certs(binary_form=True))


def _der(authority: trustme.CA) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())


async def _believes(replica: LiveReplica, authority: trustme.CA) -> None:
    await eventually("believed", lambda: _der(authority) in _subjects(replica))


async def _only_believes(replica: LiveReplica, authority: trustme.CA) -> None:
    await eventually("alone believed", lambda: _subjects(replica) == {_der(authority)})


class _Raw:
    """A connection that is kept, and asked on again and again in the name of another replica."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, replica: LiveReplica, files: Files) -> _Raw:
        context = ssl.create_default_context(cafile=files.ca)
        context.load_cert_chain(files.cert, files.key)
        port = int(replica.url.rpartition(":")[2])
        return cls(*await asyncio.open_connection(EU, port, ssl=context))

    async def ask(self, sender: LiveReplica) -> int:
        """The status of an exchange of no frames; 0: the connection was ended."""
        body, _ = seal_body([])
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {EU}\r\nContent-Type: application/octet-stream\r\n"
            f"{SENDER_HEADER}: {seal_sender(sender.network.me)}\r\nContent-Length: {len(body)}\r\n"
        )
        try:
            self._writer.write(f"{head}\r\n".encode() + body)
            answer = await self._reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            return 0
        length = next(
            int(line.partition(b":")[2])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await self._reader.readexactly(length)
        return int(answer[9:12])

    def close(self) -> None:
        self._writer.close()


async def test_a_secret_is_exchanged_while_replicas_run(tmp_path: Path) -> None:
    """The next one is added, put first, and the old one taken out: each at one replica first."""
    old, new = "the secret of last year", "the secret of this year"
    files = [tmp_path / name for name in ("eu", "us")]
    for file in files:
        file.write_text(f"{old}\n")
    settings: list[dict[str, Any]] = [{"cluster_secret_file": file} for file in files]
    async with _pair(*settings, scheme="http") as replicas:
        await _whole(*replicas)
        for text in (f"{old}\n{new}\n", f"{new}\n{old}\n", new):
            for replica, file in zip(replicas, files, strict=True):
                secrets = replica.network.trust.secrets
                assert secrets is not None
                before = secrets.first
                file.write_text(text)
                await eventually("read again", partial(_is_other, secrets, before))
                await _level(replicas)
    assert not any(replica.network.refusals for replica in replicas)


async def _level(replicas: tuple[LiveReplica, ...]) -> None:
    """Each takes what the other writes."""
    for writer, reader in (replicas, replicas[::-1]):
        async with AsyncClient(_url(writer)) as db:
            await db.counter("shop", "views").increment(1)
        seen = writer.service.seen
        await eventually("level", partial(_includes, reader, seen))


def _is_other(secrets: Secrets, before: ClusterSecret) -> bool:
    return secrets.first is not before


def _includes(replica: LiveReplica, seen: VersionVector) -> bool:
    return replica.service.seen.includes(seen)
