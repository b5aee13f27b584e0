"""SECURITY.md names a test for each attack, and these tests exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "SECURITY.md"


def test_each_named_test_exists() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!attack|---)", line)]
    assert len(rows) >= 40
    for row in rows:
        *_, tests, _ = row.split("|")
        module = ""
        for name in re.findall(r"`([\w:/]+)`", tests):
            named, _, function = name.rpartition("::")
            module = named or module
            folder = HERE.parent if "/" in module else HERE
            assert f"def {function}(" in (folder / f"{module}.py").read_text(), name
        assert module, row
