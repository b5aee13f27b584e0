"""SECURITY.md names a test for each attack, and these tests exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "SECURITY.md"


def test_each_named_test_exists() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 25
    for row in rows:
        *_, tests, _ = row.split("|")
        module = ""
        for name in re.findall(r"`([\w:]+)`", tests):
            named, _, function = name.rpartition("::")
            module = named or module
            assert f"def {function}(" in (HERE / f"{module}.py").read_text(), name
        assert module, row
