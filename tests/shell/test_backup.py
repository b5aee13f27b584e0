"""`crdtdb backup | restore`, against a live replica."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from commands import Run
from crdtdb import Database


def test_back_and_forth(crdtdb: Run, tmp_path: Path) -> None:
    crdtdb("update", "shop/counter/views", "increment", "by=5")
    crdtdb("put", "shop/register/title", "Sale")
    backup, data = str(tmp_path / "backup"), str(tmp_path / "data")
    taken = crdtdb("backup", backup, "--json")
    assert (taken.code, taken.err) == (0, "")
    assert taken.json[0]["replica"] == "eu-1"
    done = crdtdb("restore", backup, "--data-dir", data)
    assert (done.code, done.out) == (0, f"{taken.json[0]['rows']} rows of eu-1 are in {data}\n")
    assert "crdtdb serve" in done.err
    with Database.open(data) as restored:
        assert restored.counter("shop", "views").get().value == 5
        assert restored.register("shop", "title").get().value == "Sale"
    again = crdtdb("restore", backup, "--data-dir", data)
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith(f"failed: {data} is not empty")


def test_a_damaged_one_is_one_clear_line(crdtdb: Run, tmp_path: Path) -> None:
    crdtdb("update", "shop/counter/views", "increment")
    backup, data = tmp_path / "backup", tmp_path / "data"
    assert crdtdb("backup", str(backup)).code == 0
    rows = backup / "rows"
    rows.write_bytes(rows.read_bytes().replace(b"counter", b"Counter"))
    ran = crdtdb("restore", str(backup), "--data-dir", str(data))
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
    assert "is damaged" in ran.err
    assert not data.exists()


def test_a_rate(crdtdb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    size_bytes = crdtdb("backup", str(tmp_path / "one"), "--json").json[0]["size_bytes"]
    assert not slept
    began = time.monotonic()
    assert crdtdb("backup", str(tmp_path / "two"), "--rate", "1").code == 0
    took_s = time.monotonic() - began
    # Nobody really slept, so each pause is for all that is ahead by then.
    assert size_bytes - 100 - took_s < max(slept) <= 2 * size_bytes
    assert crdtdb("backup", str(tmp_path / "three"), "--rate", "fast").code == 2
    assert crdtdb("backup", str(tmp_path / "three"), "--rate", "0").code == 2


def test_nobody_to_back_up(run: Run, tmp_path: Path) -> None:
    ran = run("backup", str(tmp_path / "backup"), "--url", "http://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("unreachable:")
    assert not (tmp_path / "backup").exists()
