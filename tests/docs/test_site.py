"""The documentation site: built strictly, complete, and loaded from nowhere else."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from crdtdb.errors import PROBLEMS
from crdtdb.operations import operation_names
from crdtdb.types import CATALOGUE
from crdtdb_server import config
from crdtdb_server.config import Settings
from processes import DEADLINE_S

_ROOT: Final = Path(__file__).parents[2]
#: What a browser loads by itself.
_LOADED: Final = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*?\ssrc=[\"']?([^\"'\s>]+)"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|preload|icon|preconnect))[^>]*?\shref=[\"']?([^\"'\s>]+)"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages as they are given to the site generator, and `site`, what it makes of them."""
    directory = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, str(_ROOT / "docs" / "build.py"), str(directory)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    return directory


def _reference(built: Path, name: str) -> str:
    return (built / "pages" / "reference" / f"{name}.md").read_text()


def test_a_broken_link_fails_the_build(built: Path, tmp_path: Path) -> None:
    """What `--strict` is for."""
    site = tmp_path / "site"
    shutil.copytree(built, site, ignore=shutil.ignore_patterns("site", ".cache"))
    page = site / "pages" / "index.md"
    page.write_text(page.read_text() + "\n[nowhere](nowhere.md)\n")
    zensical = str(Path(sys.executable).with_name("zensical"))
    done = subprocess.run(
        [zensical, "build", "--strict", "--clean"],
        cwd=site,
        capture_output=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode != 0


def test_every_page_is_there_and_in_the_menu(built: Path) -> None:
    menu = (built / "zensical.toml").read_text()
    pages = [page.relative_to(built / "pages") for page in (built / "pages").rglob("*.md")]
    assert len(pages) >= 13
    for page in pages:
        assert f'"{page}"' in menu, page
        assert (built / "site" / page.with_suffix(".html")).is_file(), page


def test_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    found = 0
    for page in (built / "site").rglob("*.html"):
        for one in _LOADED.findall(page.read_text()):
            url = one[0] or one[1]
            found += 1
            assert not re.match(r"(https?:)?//", url), (page, url)
    assert found


def test_types(built: Path) -> None:
    text = _reference(built, "types")
    for name in CATALOGUE:
        section = text.split(f"\n## `{name}`\n")[1].split("\n## ")[0]
        assert "Lost can be: " in section
        for operation in operation_names(name):
            assert f"| `{operation}` |" in section


def test_http(built: Path) -> None:
    text = _reference(built, "http")
    for heading in (
        "POST /v1/transactions",
        "GET /v1/cluster",
        "DELETE /v1/cluster/members/{replica}",
    ):
        assert f"\n## `{heading}`\n" in text
    assert "/replication/" in text


def test_configuration(built: Path) -> None:
    text = _reference(built, "configuration")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `--([\w-]+)` \| .* \| .+ \|$", text, re.MULTILINE)
    assert len(rows) == len(Settings.__dataclass_fields__)
    for key, variable, flag in rows:
        assert variable == f"CRDTDB_{key.upper()}"
        assert flag.replace("-", "_") == key


def test_what_a_setting_means_is_told_to_the_end(built: Path) -> None:
    """Of what went on over a second line, that was missing, and the default with it."""
    text = _reference(built, "configuration")
    (settings,) = (
        node
        for node in ast.parse(inspect.getsource(config)).body
        if isinstance(node, ast.ClassDef) and node.name == Settings.__name__
    )
    meanings = [
        " ".join(str(node.value.value).split()).replace("|", "\\|")
        for node in settings.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ][1:]
    assert len(meanings) == len(Settings.__dataclass_fields__)
    for meaning in meanings:
        assert f"| {meaning}" in text
    assert "| `60` | Logins" in text


def test_commands(built: Path) -> None:
    text = _reference(built, "commands")
    for command in ("serve", "get", "verify", "cluster evict", "backup", "doctor"):
        assert f"# crdtdb {command}\n" in text


def test_problems(built: Path) -> None:
    text = _reference(built, "problems")
    assert re.findall(r"^## `(.+)`$", text, re.MULTILINE) == list(PROBLEMS)


def test_the_search_knows_the_pages(built: Path) -> None:
    index = json.loads((built / "site" / "search.json").read_text())
    assert "tombstone" in json.dumps(index) or "bcounter" in json.dumps(index)
