"""`crdtdb doctor`: what is looked at, and what is called wrong."""

from __future__ import annotations

import math
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trustme

from commands import Run
from crdtdb import Database
from crdtdb_server.shell.doctor import _authorities, _certificate, _graded_syncs, _version
from crdtdb_server.shell.doctor import _member as look
from crdtdb_server.shell.server import DEFAULT_SERVER


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On a disk that has room, and keeps what is written, however busy this machine is today."""
    usage = shutil._ntuple_diskusage(10**12, 10**11, 9 * 10**11)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    module = import_module("crdtdb_server.shell.doctor")
    monkeypatch.setattr(module, "_HOPELESS_SYNC_MS", math.inf)
    with Database.open(tmp_path / "data"):
        pass
    return tmp_path / "data"


def _verdicts(run: Run, *arguments: str) -> tuple[int, dict[str, str]]:
    ran = run("doctor", "--json", *arguments)
    return ran.code, {one["check"]: one["verdict"] for one in ran.json[0]["findings"]}


def test_a_sound_one(crdtdb: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (65_536, 65_536))
    ran = crdtdb("doctor", "--data-dir", str(data_dir))
    assert ran.code == 0, ran.out
    lines = ran.out.splitlines()
    assert f"ok       data directory: {data_dir} has mode 700" in lines
    assert [line.split(": ")[0].split(maxsplit=1)[1] for line in lines] == [
        "data directory",
        "fsync",
        "disk",
        "map",
        "open files",
        "server",
        "peers",
    ]
    assert "eu-1 is serving" in ran.out


def test_what_is_wrong_here(crdtdb: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 4_096))
    usage = shutil._ntuple_diskusage(10**12, 10**12 - 1_000, 1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    data_dir.chmod(0o755)
    code, verdicts = _verdicts(crdtdb, "--data-dir", str(data_dir))
    assert code == 1
    assert {check for check, verdict in verdicts.items() if verdict == "wrong"} == {
        "data directory",
        "disk",
        "open files",
    }


def test_no_server_and_no_directory(run: Run, tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path / "none"), "--url", "http://127.0.0.1:1")
    code, verdicts = _verdicts(run, *flags)
    assert code == 1
    assert verdicts["data directory"] == verdicts["server"] == "wrong"


def _member(**changes: Any) -> dict[str, Any]:
    member = {"replica": "us-1", "url": "", "self": False, "reachable": True, "trouble": None}
    return member | {"clock_offset_ms": 12} | changes


@pytest.mark.parametrize(
    ("member", "check", "verdict"),
    [
        (_member(), "peer", "ok"),
        (_member(), "clock", "ok"),
        (_member(clock_offset_ms=-1_500), "clock", "warning"),
        (_member(clock_offset_ms=5_001), "clock", "wrong"),
        (_member(clock_offset_ms=None), "clock", "skipped"),
        (_member(reachable=False, trouble="cannot connect"), "peer", "wrong"),
        (_member(trouble="other cluster"), "peer", "wrong"),
        (_member(url="http://127.0.0.1:1"), "version", "skipped"),
    ],
)
def test_members(member: dict[str, Any], check: str, verdict: str) -> None:
    found = {one.check: one for one in look(DEFAULT_SERVER, member, "1")}
    assert found[check].verdict == verdict
    assert "us-1" in found[check].detail


def test_another_version(url: str) -> None:
    assert _version(DEFAULT_SERVER, "us-1", url, "0.0.1").verdict == "warning"


@pytest.mark.parametrize(("median_ms", "verdict"), [(1, "ok"), (50, "warning"), (500, "wrong")])
def test_disks(median_ms: float, verdict: str) -> None:
    assert _graded_syncs([median_ms] * 3).verdict == verdict


@pytest.mark.parametrize(("days", "verdict"), [(365, "ok"), (10, "warning"), (-1, "wrong")])
def test_certificates(days: int, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    begins = ends - timedelta(days=400)
    issued = trustme.CA().issue_cert("eu", not_before=begins, not_after=ends)
    pem = issued.cert_chain_pems[0].bytes().decode()
    monkeypatch.setattr(ssl, "get_server_certificate", lambda *_, **__: pem)
    (finding,) = _certificate("https://eu:7460")
    assert finding.verdict == verdict
    assert list(_certificate("http://eu:7460")) == []


def test_authorities(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    (finding,) = _authorities(file)
    assert finding.verdict == "wrong"
    ends = datetime.now(UTC) + timedelta(days=10, hours=1)
    soon = trustme.CA().issue_cert("eu", not_after=ends).cert_chain_pems[0].bytes()
    file.write_bytes(trustme.CA().cert_pem.bytes() + soon)
    (finding,) = _authorities(file)
    assert (finding.verdict, "ends in 10 days" in finding.detail) == ("warning", True)
