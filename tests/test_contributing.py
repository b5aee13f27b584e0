"""The worked example of CONTRIBUTING.md: the type it adds works, and its story holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from crdtdb.datatype import StateType
from crdtdb.operations import operation_names
from crdtdb.types import CATALOGUE
from witness import in_catalogue

_TEXT: Final = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
_BLOCK: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _executed(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    return names


def test_the_example_is_a_type_and_its_story_holds() -> None:
    file, story = _BLOCK.findall(_TEXT)
    kind: StateType = _executed(file)["TYPE"]
    if kind.name in CATALOGUE:
        pytest.skip("somebody is following the example: its own tests tell more")
    with in_catalogue(kind):
        assert operation_names(kind.name) == ["fasten", "delete", "expire", "persist"]
        stories: list[Callable[[], None]] = [
            told for name, told in _executed(story).items() if name.startswith("test_")
        ]
        for told in stories:
            told()
    assert stories


def test_the_readme_says_of_every_type_what_wins() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    table = readme.split("\n## What wins\n")[1].split("\n## ")[0]
    named = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == set(CATALOGUE)
