"""What is released: the wheel, and the unit that runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import pytest

from processes import DEADLINE_S

_ROOT: Final = Path(__file__).parents[2]
_UNIT: Final = _ROOT / "deploy" / "crdtdb.service"
_PACKAGES: Final = ("crdtdb", "crdtdb_client", "crdtdb_server")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built as a release is, but with the tools of this environment."""
    directory = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    command = [sys.executable, *build, "--wheel-dir", str(directory), str(_ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    (file,) = directory.glob("*.whl")
    return ZipFile(file)


def test_the_wheel_owns_three_names(wheel: ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    (metadata,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops - {metadata} == set(_PACKAGES)


def test_the_wheel_is_whole(wheel: ZipFile) -> None:
    names = set(wheel.namelist())
    for package in _PACKAGES:
        assert f"{package}/py.typed" in names
    folders = (_ROOT / "crdtdb", _ROOT / "client" / _PACKAGES[1], _ROOT / "server" / _PACKAGES[2])
    for folder in folders:
        modules = {
            f"{folder.name}/{file.relative_to(folder)}"
            for file in folder.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        assert modules <= names, modules - names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_wheel_says_what_it_is(wheel: ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = wheel.read(name).decode()
    for line in ("Name: crdtdb", "License-Expression: Apache-2.0", "Provides-Extra: otel"):
        assert f"\n{line}\n" in metadata
    (entry,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "crdtdb = crdtdb_server.shell:main" in wheel.read(entry).decode()


def test_every_dependency_has_a_floor() -> None:
    project: Any = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    extras = (one for group in project["optional-dependencies"].values() for one in group)
    for requirement in (*project["dependencies"], *extras):
        assert re.fullmatch(r"[a-z0-9-]+>=[0-9.]+(;.*)?", requirement), requirement


def test_the_changelog_knows_the_version() -> None:
    text = (_ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## Unreleased$", text, re.MULTILINE)


# -- the unit -------------------------------------------------------------------------------------


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze checks the unit: apt-get install systemd")
    # What it starts is not installed here.
    unit = tmp_path / _UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", _UNIT.read_text(), flags=re.M))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    assert _UNIT.name not in done.stderr, done.stderr


def test_the_unit_gives_away_little() -> None:
    text = _UNIT.read_text()
    for line in (
        "ProtectSystem=strict",
        "NoNewPrivileges=true",
        "CapabilityBoundingSet=",
        "StateDirectoryMode=0700",
    ):
        assert f"\n{line}\n" in text
