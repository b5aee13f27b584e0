"""What a text is, from its causal history: YATA, character by character, as its paper tells it.

Each character names the ones that it was put between, where it was put in; what several put in at
one place at once stands in the order of their client ids, without mixing (Nicolaescu, Jahns, Derntl
and Klamma 2016; `Item.integrate` of Yjs). Characters that are deleted stay in their places.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["Character", "Sequence", "Source"]

#: Who put a character in, and the how many-th of theirs it is.
_Id: TypeAlias = tuple[int, int]
#: Something that put characters in.
Source: TypeAlias = tuple[int, int]

#: Left of the first character, right of the last one.
_EDGE: Final[_Id | None] = None


@dataclass(eq=False)
class Character:
    """One character, where it was put in, and by what."""

    id: _Id
    text: str
    left: _Id | None
    right: _Id | None
    source: Source


class Sequence:
    """All characters that were ever put in, in their order."""

    def __init__(self) -> None:
        self._all: list[Character] = []
        #: What deleted each: any number of sources may have.
        self.deleted: dict[_Id, set[Source]] = {}

    def shown(
        self,
        visible: Callable[[Source], bool],
        over: Callable[[Source], bool] = lambda _source: False,
    ) -> list[Character]:
        """The characters that are there for somebody who can see those sources, but not past ones.

        What is `over` was taken out, and left its characters in their places.
        """
        known = [c for c in self._known(visible) if not over(c.source)]
        return [c for c in known if not self._is_deleted(c, visible)]

    def _known(self, visible: Callable[[Source], bool]) -> list[Character]:
        return [character for character in self._all if visible(character.source)]

    def _is_deleted(self, character: Character, visible: Callable[[Source], bool]) -> bool:
        return any(map(visible, self.deleted.get(character.id, ())))

    def put_in(
        self,
        behind: Character | None,
        text: str,
        client: int,
        source: Source,
        visible: Callable[[Source], bool],
    ) -> None:
        """Somebody who can see those sources puts text in: right before a character, or last."""
        known = self._known(visible)
        place = len(known) if behind is None else known.index(behind)
        left = known[place - 1].id if place else _EDGE
        right = known[place].id if place < len(known) else _EDGE
        clock = sum(character.id[0] == client for character in self._all)
        for number, letter in enumerate(text, clock):
            self.integrate(Character((client, number), letter, left, right, source))
            left = client, number

    def integrate(self, new: Character) -> None:
        """Find the place of a character among those that are put in at the same place."""
        ids = [character.id for character in self._all]
        place = ids.index(new.left) + 1 if new.left is not None else 0
        end = ids.index(new.right) if new.right is not None else len(ids)
        passed: set[_Id] = set()
        between: set[_Id] = set()
        for at in range(place, end):
            other = self._all[at]
            passed.add(other.id)
            between.add(other.id)
            if other.left == new.left:
                if other.id[0] < new.id[0]:
                    place = at + 1
                    between.clear()
                elif other.right == new.right:
                    break
            elif other.left is not None and other.left in passed:
                if other.left not in between:
                    place = at + 1
                    between.clear()
            else:
                break
        self._all.insert(place, new)

    def delete(self, characters: Collection[Character], source: Source) -> None:
        """Something deletes characters."""
        for character in characters:
            self.deleted.setdefault(character.id, set()).add(source)
