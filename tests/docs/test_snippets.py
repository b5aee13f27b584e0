"""What the documentation shows is what happens: its commands are executed, its settings read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import pytest
from cyclopts import App, Parameter

from crdtdb_server.config import SOURCES, Settings
from reader import Reader, blocks

_PAGES: Final = Path(__file__).parents[2] / "docs" / "pages"
#: Its sections all begin with what stands before the first.
_DISASTERS: Final = "how-to/recover.md"
_TOML: Final = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _stories() -> Iterator[tuple[str, str]]:
    """What is to be carried out from beginning to end, and what to call it."""
    for page in sorted(_PAGES.rglob("*.md")):
        name, text = str(page.relative_to(_PAGES)), page.read_text()
        if name == _DISASTERS:
            beginning, *sections = text.split("\n## ")
            for section in filter(blocks, sections):
                yield f"{name}: {section.partition(chr(10))[0]}", f"{beginning}\n{section}"
        elif blocks(text):
            yield name, text


_STORIES: Final = dict(_stories())


def test_there_is_something_to_execute() -> None:
    assert {"tutorial.md", "how-to/deploy.md"} <= set(_STORIES)
    assert len(_STORIES) >= 10


@pytest.mark.parametrize("name", _STORIES)
def test_what_pages_show(name: str, tmp_path: Path) -> None:
    for program in ("curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"the pages use {program}: apt-get install {program}")
    Reader(tmp_path).read(_STORIES[name])


def _settings(file: Path) -> Settings:
    read: list[Settings] = []
    app = App(result_action="return_value")

    def serve(
        *, settings: Annotated[Settings, Parameter(name="*")], config: Path | None = None
    ) -> None:
        read.append(settings)

    app.default(serve)
    app.config = SOURCES
    app(["--config", str(file)], exit_on_error=False)
    return read[0]


def test_the_configuration_of_a_region_is_one(tmp_path: Path) -> None:
    (text,) = _TOML.findall((_PAGES / "how-to" / "deploy.md").read_text())
    file = tmp_path / "crdtdb.toml"
    file.write_text(text)
    settings = _settings(file)
    settings.check()
    assert settings.replica == "eu-1"
    assert len(settings.peers) == 2
    assert not settings.insecure
