"""What every checker reports."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Violation", "raise_first"]


class Violation(AssertionError):
    """Something that must hold does not; `check` names it."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check
        self.detail = detail


def raise_first(violations: Iterable[Violation]) -> None:
    """Raise the first of what a checker found, if it found anything."""
    for violation in violations:
        raise violation
