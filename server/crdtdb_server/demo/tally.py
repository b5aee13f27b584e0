"""The plain loop over a commit history: what every region must show at the end.

A register per path holds the last commit that touched it. Which one is last depends on when two
regions wrote, unless one had seen the other; and all had seen everything whenever a round was over.
So the tally keeps, of the last round in which a path was touched, the last commit of each region:
any of these is right, and no other.
"""

from __future__ import annotations

from typing import Any, Final

from crdtdb_server.demo.trace import Commit

__all__ = ["ADDED", "BUCKET", "COMMITS", "REMOVED", "Tally", "last_commit"]

BUCKET: Final = "history"
#: Keys of the totals.
ADDED: Final = "added"
REMOVED: Final = "removed"
COMMITS: Final = "commits"


def last_commit(commit: Commit) -> dict[str, Any]:
    """What the register of a path says about a commit."""
    return {"t": commit.t, "who": commit.who}


class Tally:
    """Sums, sets and last commits, commit by commit."""

    def __init__(self) -> None:
        self.commits = 0
        self.added = 0
        self.removed = 0
        #: Contributor → lines added minus lines removed, of those who changed any.
        self.lines: dict[str, int] = {}
        #: Contributor → paths touched.
        self.paths: dict[str, set[str]] = {}
        #: Path → the last round that touched it, and in that round region → last commit.
        self._last: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {}

    def add(self, commit: Commit, round_number: int) -> None:
        """Count one commit. Commits of one region come in the order they were written."""
        who = str(commit.who)
        self.commits += 1
        self.added += commit.added
        self.removed += commit.removed
        if commit.added or commit.removed:
            self.lines[who] = self.lines.get(who, 0) + commit.added - commit.removed
        for path, _, _ in commit.files:
            self.paths.setdefault(who, set()).add(path)
            touched, regions = self._last.get(path, (round_number, {}))
            if touched != round_number:
                regions = {}
            regions[commit.region] = last_commit(commit)
            self._last[path] = round_number, regions

    @property
    def last(self) -> dict[str, list[dict[str, Any]]]:
        """Path → the commits of which one has to be the last."""
        return {path: list(regions.values()) for path, (_, regions) in self._last.items()}
