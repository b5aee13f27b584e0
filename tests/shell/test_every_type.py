"""Each type of the catalogue through each command for objects, as an object and as a field."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from commands import Run
from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.errors import CallerError
from crdtdb.types import CATALOGUE
from crdtdb_client import Client
from liveserver import live_server
from operations import Plain, all_operations, creation
from processes import DEADLINE_S
from replicas import Replica, exchange

_FIELDS: Final = [n for n, kind in CATALOGUE.items() if kind.deletable and n != "map"]


def _given(plain: Plain) -> list[str]:
    """An operation as arguments of `crdtdb update`."""
    return [plain["op"], *(f"{k}:={json.dumps(v)}" for k, v in plain.items() if k != "op")]


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_an_object_through_every_command(crdtdb: Run, type_name: str, tmp_path: Path) -> None:
    at, name = f"shop/{type_name}/a/b", ObjectName("shop", type_name, "a/b")
    is_deletable, file, again = CATALOGUE[type_name].deletable, tmp_path / "all", tmp_path / "again"
    assert "does not exist" in crdtdb("get", at).err
    first, operations = creation(type_name), all_operations(type_name)
    with Database.in_memory(replica="other") as same:  # another door, asked the same
        for plain in (first, *operations[:: max(1, len(operations) // 10)], first):
            ran = crdtdb("update", at, *_given(plain), "--json")
            with suppress(CallerError):
                assert same.update(name, [plain]).changed == ran.json[0].get("changed")
                continue
            assert ran.code == 1
        assert crdtdb("get", at, "--json").json[0]["exists"]
        assert crdtdb("get", at).out
        assert type_name in crdtdb("ls", "shop").out
        assert "a/b" in crdtdb("ls", f"shop/{type_name}").out
        (explained,) = crdtdb("explain", at, "--json").json
        assert all(record["entries"] for record in explained["records"])
        assert crdtdb("explain", at).out.strip()
        assert crdtdb("export", str(file)).code == 0
        assert list(map(json.loads, file.read_bytes().splitlines())) == list(
            map(json.loads, same.export())
        )
    with live_server("us-1") as other:
        assert crdtdb("import", str(file), "--url", other).code == 0
        assert crdtdb("export", str(again), "--url", other).code == 0
        assert again.read_bytes() == file.read_bytes()
    assert crdtdb("delete", at).code == (0 if is_deletable else 1)
    assert ("does not exist" in crdtdb("get", at).err) == is_deletable


@pytest.mark.parametrize("type_name", _FIELDS)
def test_a_field_through_every_command(crdtdb: Run, type_name: str) -> None:
    do = json.dumps({"type": type_name, **creation(type_name)})
    assert crdtdb("update", "shop/map/m", "update", 'field:=["a","b"]', f"do:={do}").code == 0
    (leaf,) = crdtdb("get", "shop/map/m", "--prefix", '["a"]').json
    assert (leaf["field"], leaf["type"]) == (["a", "b"], type_name)
    (explained,) = crdtdb("explain", "shop/map/m", "--field", '["a", "b"]', "--json").json
    assert explained["records"][0]["field"] == ["a", "b"]
    assert crdtdb("update", "shop/map/m", "remove", 'field:=["a"]').out == "0 fields\n"


def test_every_type_is_watched_as_an_object_and_as_a_field() -> None:
    expected: set[tuple[str, str | None]] = set()
    with live_server() as url, Client(url) as client:
        for type_name in CATALOGUE:
            client.update(ObjectName("shop", type_name, "k"), [creation(type_name)])
            expected.add((type_name, None))
        for type_name in _FIELDS:
            do = {"type": type_name, **creation(type_name)}
            client.map("shop", "fields").update([type_name], do)
            expected.add(("map", type_name))
        command = [sys.executable, "-m", "crdtdb_server", "watch", "--since", "start", "--json"]
        with subprocess.Popen([*command, "--url", url], stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdout is not None
            seen: set[tuple[str, str | None]] = set()
            while not expected <= seen:
                event = json.loads(watch.stdout.readline())
                field = event["field"][0] if event["key"] == "fields" else None
                seen.add((event["type"], field))
            watch.send_signal(signal.SIGINT)
            assert watch.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("type_name", _FIELDS)
def test_conflicts_are_told_of_objects_and_fields_that_can_lose_a_value(
    run: Run, type_name: str
) -> None:
    """Each operation at one replica, the next one at the other."""
    here, there = Replica(1), Replica(2)
    kind, operations = CATALOGUE[type_name], all_operations(type_name)[:4]
    for number, plain in enumerate(operations):
        do = {"type": type_name, **plain}
        for replica in (here, there):
            with suppress(CallerError):
                replica.do(type_name, key=str(number), **plain)
            with suppress(CallerError):
                replica.do("map", "update", key=str(number), field=["a"], do=do)
    exchange(here, there)
    with live_server("eu-1", here.store) as url:
        told = run("conflicts", "--json", "--limit", "1000", "--url", url).json
    assert {one["object"]["type"] for one in told} == (
        {type_name, "map"} if getattr(kind, "has_losers", False) else set()
    )
    assert all(one["field"] == ["a"] for one in told if one["object"]["type"] == "map")


def test_a_conflict_in_a_field_names_it(run: Run) -> None:
    """The command left it out, so that nobody knew which field of the map had lost a value."""
    here, there = Replica(1), Replica(2)
    for replica, value in ((here, "here"), (there, "there")):
        do = {"type": "register", "op": "set", "value": value}
        replica.do("map", "update", field=["a", "title"], do=do)
    exchange(here, there)
    with live_server("eu-1", here.store) as url:
        (line,) = run("conflicts", "--url", url).out.splitlines()
        (document,) = run("conflicts", "--json", "--url", url).json
        with Client(url) as client:
            (conflict,) = client.conflicts()
    assert line.split("\t")[1:3] == ['shop/map/k ["a", "title"]', '"here"']
    assert document["field"] == ["a", "title"]
    assert conflict.field == ("a", "title")
