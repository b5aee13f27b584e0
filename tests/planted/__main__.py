"""`python tests/planted`: plants every mistake and prints what noticed it; 1 if one got away."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

_TESTS: Final = Path(__file__).resolve().parents[1]
#: Tests that plant a mistake each, or several.
_SUITES: Final = (
    "oracle/test_planted_*.py",
    "oracle/test_expiry.py",
    "simulation/test_broken.py",
    "simulation/test_large.py",
    "simulation/test_deadlines.py",
    "scenarios/test_scenarios.py",
    "store/test_power_cut*.py",
)
_PLANTED: Final = "planted"
_NOTICED_BY: Final = "noticed_by"


class _Listing:
    """Prints a line for each planted mistake."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._failed = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _PLANTED in item.keywords]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._failed = False
        done = yield
        noticed = [str(check) for name, check in item.user_properties if name == _NOTICED_BY]
        self.outcomes["got away" if self._failed else "noticed"] += 1
        by = "NOBODY" if self._failed else ", ".join(dict.fromkeys(noticed)) or item.name
        print(f"{_title(item)}\n    noticed by {by}", flush=True)
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed


def _title(item: pytest.Item) -> str:
    """The mistake in words: the name of its test, or of the variant, and the story behind it."""
    variant = getattr(item, "callspec", None)
    name = str(variant.id) if variant else item.name.removeprefix("test_")
    story = None if variant else inspect.getdoc(getattr(item, "obj", None))
    words = name.replace("_", " ").replace("-", " ")
    return f"{words}: {' '.join(story.split())}" if story else words


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/planted", description=__doc__)
    parser.add_argument("-k", metavar="WORDS", help="only those whose names match (see pytest -k)")
    chosen = parser.parse_args()
    listing = _Listing()
    options = ["-p", "no:terminal", "-p", "no:cacheprovider", "--capture=fd"]
    options += [str(path) for suite in _SUITES for path in sorted(_TESTS.glob(suite))]
    if chosen.k:
        options += ["-k", chosen.k]
    code = pytest.main(options, plugins=[listing])
    print(f"{listing.outcomes['noticed']} noticed, {listing.outcomes['got away']} got away")
    return int(code != 0 or not listing.outcomes["noticed"])


if __name__ == "__main__":
    sys.exit(main())
