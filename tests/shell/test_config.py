"""`crdtdb config show`: every setting, and where it comes from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from commands import Run
from crdtdb_server.bounds import Bounds
from crdtdb_server.config import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "crdtdb.toml"
    file.write_text('data_dir = "d"\nregion = "file"\nreplica = "file"\ncluster = "file"\n')
    return file


def test_each_value_names_its_origin(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRDTDB_CONFIG", str(file))
    monkeypatch.setenv("CRDTDB_REGION", "environment")
    monkeypatch.setenv("CRDTDB_REPLICA", "environment")
    monkeypatch.setenv("CRDTDB_PEER", "http://127.0.0.1:1 http://127.0.0.1:2")
    ran = run("config", "show", "--replica", "flag", "--json")
    assert (ran.code, ran.err) == (0, "")
    (shown,) = ran.json
    assert {key: (one["value"], one["origin"]) for key, one in shown.items()} == {
        "data_dir": ("d", f"file {file}"),
        "listen": ("127.0.0.1:7460", "default"),
        "replica": ("flag", "flag --replica"),
        "region": ("environment", "environment CRDTDB_REGION"),
        "cluster": ("file", f"file {file}"),
        "peer": (["http://127.0.0.1:1", "http://127.0.0.1:2"], "environment CRDTDB_PEER"),
        "config": (str(file), "environment CRDTDB_CONFIG"),
    } | {
        key: (one["value"], "default")
        for key, one in shown.items()
        if key in _OTHERS and one["value"] in (None, False, [])
    } | {f"max_{name}": (value, "default") for name, value in Bounds().as_dict().items()}
    assert len(shown) == len(fields(Settings)) + 1


_OTHERS = {
    "advertise",
    "allow_host",
    "token_file",
    "cluster_secret_file",
    "tls_cert",
    "tls_key",
    "tls_ca",
    "insecure",
    "allow_fault_injection",
    "tracing",
}


def test_for_people(run: Run, file: Path) -> None:
    ran = run("config", "show", "--config", str(file), "--insecure")
    lines = ran.out.splitlines()
    assert f"cluster\tfile\tfile {file}" in lines
    assert "insecure\ttrue\tflag --insecure" in lines
    assert "advertise\t-\tdefault" in lines


@pytest.mark.parametrize(
    ("arguments", "environment", "text", "message"),
    [
        ("--listen 7460", {}, "", "'7460' is not HOST:PORT"),
        ("--pear http://us", {}, "", "--pear"),
        ("", {"CRDTDB_PEERS": "http://us"}, "", "Unknown environment variable CRDTDB_PEERS"),
        ("", {"CRDTDB_LISTEN": "x"}, "", "'x' is not HOST:PORT"),
        ("", {}, 'pears = "x"', "Unknown key in"),
        ("", {}, "json = true", "Unknown key in"),
        ("", {}, 'replica = "a b"', "'a b' is no name"),
        ("", {}, "replica =", "is not TOML"),
        ("--tls-cert c", {}, "", "--tls-cert and --tls-key go together"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    environment: dict[str, str],
    text: str,
    message: str,
) -> None:
    file = tmp_path / "crdtdb.toml"
    file.write_text(text)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    flags = ("--data-dir", "d", "--config", str(file), *arguments.split())
    ran = run("config", "show", *flags)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert ran.err.startswith("wrong usage: ")
    assert message in ran.err
