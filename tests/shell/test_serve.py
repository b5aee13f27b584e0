"""The settings of `serve`: where they come from, which wins, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import crdtdb_server.serve
from commands import Run
from crdtdb.errors import DirectoryInUse
from crdtdb_server.config import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """The settings with which `serve` was called, instead of serving."""
    served: list[Settings] = []
    monkeypatch.setattr(crdtdb_server.serve, "serve", served.append)
    yield served
    structlog.reset_defaults()


def test_defaults(run: Run, served: list[Settings]) -> None:
    assert run("serve", "--data-dir", "d").code == 0
    assert served == [Settings(data_dir=Path("d"))]
    assert (served[0].host, served[0].port) == ("127.0.0.1", 7460)


def test_flags(run: Run, served: list[Settings]) -> None:
    flags = "--data-dir d --listen [::1]:0 --replica eu-1 --region eu --cluster prod --insecure"
    peers = "--peer http://US:7460/ --peer https://ap --advertise http://eu:80"
    hosts = "--allow-host EU.example --allow-host ::1 --allow-fault-injection"
    assert run("serve", *f"{flags} {peers} {hosts}".split()).code == 0
    assert served == [
        Settings(
            data_dir=Path("d"),
            listen="[::1]:0",
            replica="eu-1",
            region="eu",
            cluster="prod",
            peers=("http://us:7460", "https://ap"),
            advertise="http://eu",
            allow_hosts=("eu.example", "::1"),
            insecure=True,
            allow_fault_injection=True,
        )
    ]
    assert (served[0].host, served[0].port) == ("::1", 0)


def test_flags_win_over_the_environment_and_that_over_the_file(
    run: Run, served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "crdtdb.toml"
    file.write_text('data_dir = "file"\nreplica = "file"\nregion = "file"\ncluster = "file"\n')
    monkeypatch.setenv("CRDTDB_CONFIG", str(file))
    monkeypatch.setenv("CRDTDB_REPLICA", "environment")
    monkeypatch.setenv("CRDTDB_REGION", "environment")
    assert run("serve", "--region", "flag").code == 0
    (settings,) = served
    assert (str(settings.data_dir), settings.cluster) == ("file", "file")
    assert (settings.replica, settings.region) == ("environment", "flag")


@pytest.mark.parametrize("several", ["http://us http://ap", '["http://us", "http://ap"]'])
def test_lists_in_the_environment(
    run: Run, served: list[Settings], several: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRDTDB_PEER", several)
    assert run("serve", "--data-dir", "d", "--insecure").code == 0
    assert served[0].peers == ("http://us", "http://ap")


def test_lists_and_flags_in_a_file(run: Run, served: list[Settings], tmp_path: Path) -> None:
    file = tmp_path / "crdtdb.toml"
    file.write_text('data_dir = "d"\npeer = ["http://us", "http://ap"]\ninsecure = true\n')
    assert run("serve", "--config", str(file)).code == 0
    assert (served[0].peers, served[0].insecure) == (("http://us", "http://ap"), True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "--data-dir requires an argument"),
        ("--data-dir d --nonsense", "--nonsense"),
        ("--data-dir d extra", "extra"),
        ("--data-dir d --listen 7460", "is not HOST:PORT"),
        ("--data-dir d --listen localhost", "is not HOST:PORT"),
        ("--data-dir d --listen localhost:65536", "is not HOST:PORT"),
        ("--data-dir d --listen ::1:7460", "is not HOST:PORT"),
        ("--data-dir d --listen http://localhost:7460", "is not HOST:PORT"),
        ("--data-dir d --peer us:7460", "is not the URL of a replica"),
        ("--data-dir d --peer http://us/v1", "must end after the host"),
        ("--data-dir d --advertise http://a@eu", "must not hold credentials"),
        ("--data-dir d --replica eu/1", "is no name"),
        ("--data-dir d --region -eu", "--region"),
        (f"--data-dir d --cluster {'x' * 64}", "is no name"),
        ("--data-dir d --allow-host eu:7460", "is not a host name"),
        ("--data-dir d --listen 0.0.0.0:7460", "add --insecure"),
        ("--data-dir d --listen eu.example:7460", "add --insecure"),
        ("--data-dir d --listen 0.0.0.0:7460 --token-file t", "--cluster-secret-file"),
        ("--data-dir d --listen 0.0.0.0:7460 --cluster-secret-file s", "--token-file"),
        ("--data-dir d --peer https://us", "Whoever answers as us could replicate"),
        ("--data-dir d --tls-cert c", "--tls-cert and --tls-key go together"),
        ("--data-dir d --config nowhere.toml", "there is no file"),
    ],
)
def test_wrong_settings_are_wrong_usage(
    run: Run, served: list[Settings], flags: str, message: str
) -> None:
    ran = run("serve", *flags.split())
    assert (ran.code, served) == (2, [])
    assert message in " ".join(ran.err.replace("│", " ").split())


def test_beyond_loopback_needs_a_word(run: Run, served: list[Settings]) -> None:
    assert run("serve", "--data-dir", "d", "--listen", "0.0.0.0:7460", "--insecure").code == 0
    assert served[0].host == "0.0.0.0"


def test_beyond_loopback_with_credentials(run: Run, served: list[Settings]) -> None:
    credentials = "--token-file t --cluster-secret-file s --tls-cert c --tls-key k --tls-ca a"
    place = "--data-dir d --listen 0.0.0.0:7460 --peer https://us"
    assert run("serve", *place.split(), *credentials.split()).code == 0
    (settings,) = served
    assert (settings.token_file, settings.cluster_secret_file) == (Path("t"), Path("s"))
    assert (settings.tls_cert, settings.tls_key, settings.tls_ca) == (
        Path("c"),
        Path("k"),
        Path("a"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"peers = []", "Unknown key in {file}: peers. There are advertise, "),
        (b"[serve]\nreplica = 'x'", "Unknown key in {file}: serve. There are "),
        (b"listen = 5", "Invalid value for [listen]: '5' is not HOST:PORT"),
        (b"peer = ['us']", "'us' is not the URL of a replica"),
        (b"insecure = 'perhaps'", "Invalid value for [insecure] from {file}"),
        (b"x", "{file} is not TOML: Expected '=' after a key"),
        (b"\0", "{file} is not TOML: Invalid statement"),
        (b"region = '\xff'", "{file} is not TOML: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_file_with_anything_else_in_it_is_refused_in_one_line(
    run: Run, served: list[Settings], tmp_path: Path, text: bytes, message: str
) -> None:
    file = tmp_path / "crdtdb.toml"
    file.write_bytes(text)
    ran = run("serve", "--data-dir", "d", "--config", str(file))
    assert (ran.code, ran.out, served) == (2, "", [])
    assert ran.err.startswith("wrong usage: ")
    assert ran.err.count("\n") == 1
    assert message.format(file=file) in ran.err
    assert str(file) in ran.err


def test_a_misspelt_variable_is_refused(
    run: Run, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRDTDB_PEERS", "http://us")
    ran = run("serve", "--data-dir", "d")
    assert (ran.code, served) == (2, [])
    assert "Unknown environment variable CRDTDB_PEERS" in ran.err


def test_variables_of_others_are_let_be(
    run: Run, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("URL", "TOKEN", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_7460_TCP_ADDR"):
        monkeypatch.setenv(f"CRDTDB_{name}", "http://10.0.0.1:7460")
    assert run("serve", "--data-dir", "d").code == 0
    assert len(served) == 1


def test_a_replica_that_cannot_start_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(settings: Settings) -> None:
        raise DirectoryInUse(f"{settings.data_dir} is open in process 7")

    monkeypatch.setattr(crdtdb_server.serve, "serve", fail)
    ran = run("serve", "--data-dir", str(tmp_path))
    structlog.reset_defaults()
    assert (ran.code, ran.err) == (1, f"failed: {tmp_path} is open in process 7\n")


def test_a_damaged_directory_without_peers_is_no_way_to_begin_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command again would make an empty replica of it, which looks as if all were well."""
    directory = tmp_path / "my data"
    directory.mkdir()
    (directory / "FORMAT").write_text("?")
    command = ("serve", "--data-dir", str(directory))
    monkeypatch.setattr("sys.argv", ["/usr/bin/crdtdb", *command])
    try:
        ran = run(*command)
    finally:
        structlog.reset_defaults()
    assert ran.code == 1
    assert ran.err.splitlines()[1:] == [
        "  From its peers, which have all that it had sent them, under a new identity:",
        f"    mv '{directory}' '{directory}.damaged'",
        f"    crdtdb serve --data-dir '{directory}' --peer URL",
        "  Or from a backup of it, and from its peers what has happened since:",
        f"    mv '{directory}' '{directory}.damaged'",
        f"    crdtdb restore BACKUP --data-dir '{directory}'",
        f"    crdtdb serve --data-dir '{directory}'",
    ]
