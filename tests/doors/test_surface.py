"""The doors have one set of names, and what is documented runs."""

from __future__ import annotations

import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import crdtdb.database
import crdtdb.handles
import crdtdb.reads
import crdtdb_client.asking
import crdtdb_client.async_client
import crdtdb_client.client
from crdtdb import Database, handles
from crdtdb.handles import Members, Value
from crdtdb.operations import operation_names
from crdtdb.types import CATALOGUE
from crdtdb.writes import Updates
from crdtdb_client import AsyncClient, Client, async_handles
from liveserver import live_server

#: What every door has (API: one set of method names).
SHARED = [
    *CATALOGUE,
    *("read", "read_together", "contains", "explain", "update", "transaction"),
    *(
        "buckets",
        "types",
        "objects",
        "changes",
        "conflicts",
        "export",
        "import_",
        "digest",
        "close",
    ),
]


def public(owner: type) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def parameters(owner: type, name: str) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of a method's parameters."""
    signature = inspect.signature(getattr(owner, name))
    return [(one.name, one.kind, one.default) for one in signature.parameters.values()]


@pytest.mark.parametrize("name", SHARED)
def test_every_door_has_the_method_with_the_same_parameters(name: str) -> None:
    assert parameters(Database, name) == parameters(Client, name) == parameters(AsyncClient, name)


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_a_handle_has_a_method_for_each_operation(type_name: str) -> None:
    handle = getattr(Database.in_memory(), type_name)("shop", "k")
    assert set(operation_names(type_name)) <= public(type(handle))
    assert parameters(Updates, type_name) == parameters(Database, type_name)


def test_the_two_clients_have_the_same_methods() -> None:
    assert public(Client) == public(AsyncClient)
    for name in public(Client) - {"token"}:
        assert parameters(Client, name) == parameters(AsyncClient, name)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, handle in inspect.getmembers(handles, inspect.isclass)
        if issubclass(handle, Value | Members) and handle not in (Value, Members)
    ],
)
def test_handles_have_the_same_methods(name: str) -> None:
    now, later = getattr(handles, name), getattr(async_handles, f"Async{name}")
    assert public(now) == public(later)
    for method in public(now):
        assert parameters(now, method) == parameters(later, method)


@pytest.mark.parametrize(
    "module",
    [
        crdtdb.handles,
        crdtdb.database,
        crdtdb.reads,
        crdtdb_client.client,
        crdtdb_client.asking,
        crdtdb_client.async_client,
    ],
    ids=lambda module: module.__name__,
)
def test_the_examples_run(module: ModuleType) -> None:
    with live_server() as url:
        names = {"url": url, "Database": Database, "Client": Client, "AsyncClient": AsyncClient}
        results = doctest.testmod(module, extraglobs=names)
    assert results.attempted
    assert not results.failed


def test_a_type_checker_accepts_a_users_program_and_finds_mistakes(tmp_path: Path) -> None:
    """It sees the packages as a user's does: by `py.typed`, without this repository's settings."""
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", settings, "program.py", "mistakes.py"],
        cwd=Path(__file__).parent,
        env=os.environ | {"MYPY_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
