"""Elements in an order that replicas agree on: Fugue (Weidner, Gentle, Kleppmann 2023).

The elements are the nodes of a tree. Each was put in as a left or a right child of another one, or
at the top, and the order is the tree's: left children, the element, right children; siblings by
their ids, later generations of right children first. Who types on hangs each element below the one
before, so what two people typed at one place at once stands one after the other, never mixed ("The
Art of the Fugue", section 3).

- An id is the dot of the operation and the element's place in it: 0 where the operation brought
  one element, 1 … n where it brought several.
- **New elements hang below living ones only** (or at the top): where the paper would make one the
  left child of a deleted element, it becomes a right child of its living neighbour, of a later
  generation than all others that stand there: so it comes before them, at the paper's place. So a
  deleted element that everybody has seen deleted, and that nothing hangs below, is
  never named again: it can go (`settled`). An evicted replica may name it still, for nobody waits
  until it has seen that: while there are evictions, nothing goes.
- Below an element that is not there (a cut took it, when this was under way) others are kept
  together: an element of that id, deleted, stands at the top for it.

Elements are kept in runs: neighbours of which each is the right child of the one before and has
the next id. What one replica types in one go is one run. O(runs) per operation, of which the most
is copying a list of references; looking for an id begins where the last change was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from crdtdb.types._runs import (
    LEFT,
    RIGHT,
    Child,
    ElementId,
    Index,
    Row,
    Run,
    Spans,
    ids_from,
    later_id,
)

__all__ = ["Element", "Elements", "Place"]


class Element(NamedTuple):
    """One element that users see."""

    id: ElementId
    value: bytes


class Place(NamedTuple):
    """Where elements are put in: below which element (None: at the top), on which side."""

    parent: ElementId | None
    side: bool
    generation: int = 0


class Elements:
    """All elements of one object, deleted ones among them, in order. Operations give a new one."""

    __slots__ = ("_hint", "_runs", "_stand_ins", "size", "size_bytes")

    def __init__(
        self,
        runs: list[Run],
        size: int,
        size_bytes: int,
        stand_ins: frozenset[ElementId] = frozenset(),
        hint: int = 0,
    ) -> None:
        self._runs = runs
        #: All that stand at the top for elements that are not there are among these.
        self._stand_ins = stand_ins
        #: The elements that users see, and the bytes of their values.
        self.size = size
        self.size_bytes = size_bytes
        #: The run that was named last, as it stood then: where to look first, right or wrong.
        self._hint = hint

    # -- stored ---------------------------------------------------------------------------------

    @classmethod
    def load(cls, rows: Iterable[Sequence[Any]]) -> Elements:
        """The inverse of `dump`."""
        runs: list[Run] = []
        above_left: set[ElementId] = set()
        size = size_bytes = 0
        for first, parent, side, generation, held in rows:
            up = None if parent is None else (parent[0], parent[1], parent[2])
            if up is not None and side == LEFT:
                above_left.add(up)
            values = None if isinstance(held, int) else tuple(held)
            count = held if isinstance(held, int) else len(held)
            if values is not None:
                size += count
                size_bytes += sum(map(len, values))
            one = first[0], first[1], first[2]
            runs.append(Run(one, count, up, side, values, generation))
        for i, run in enumerate(runs):
            if run.first in above_left:
                runs[i] = run._replace(has_left=True)
        tops = (run.first for run in runs if run.parent is None and run.values is None)
        return cls(runs, size, size_bytes, frozenset(tops))

    def dump(self) -> list[Row]:
        """As plain values. Equal elements give equal rows, whatever led there."""
        joined: list[Run] = []
        for run in self._runs:
            if joined and joined[-1].joins(run):
                joined[-1] = joined[-1].with_more(run)
            else:
                joined.append(run)
        return [run.row() for run in joined]

    def check(self) -> None:
        """Raises ValueError unless this is a whole tree, in its order. O(runs log runs)."""
        index = Index(self._runs)
        left_of: dict[int, list[int]] = {}
        right_of: dict[int, list[tuple[int, int]]] = {}
        tops: list[int] = []
        for i, run in enumerate(self._runs):
            if run.side == LEFT and run.generation:
                raise ValueError("an element on the left has a generation")
            if run.parent is None:
                if run.side == LEFT:
                    raise ValueError("an element stands left of the top")
                tops.append(i)
                continue
            above = index.find(run.parent)
            if above is None:
                raise ValueError("an element hangs below one that is not there")
            j, k = above
            inner = k + 1 < self._runs[j].length
            if (k and run.side == LEFT) or (
                inner and run.side == RIGHT and run.child.rank < (0, self._runs[j].id_at(k + 1))
            ):
                raise ValueError("a run has an element in its middle")
            if run.side == LEFT:
                left_of.setdefault(j, []).append(i)
            else:
                right_of.setdefault(j, []).append((-k, i))

        def by_rank(i: int) -> tuple[int, ElementId]:
            return self._runs[i].child.rank

        walked: list[int] = []
        # What is left to do, the next last: a run with all below it, or (inverted) by itself.
        left = sorted(tops, key=by_rank, reverse=True)
        while left:
            i = left.pop()
            if i < 0:
                walked.append(~i)
                continue
            behind = sorted(right_of.get(i, ()), key=lambda entry: (entry[0], by_rank(entry[1])))
            left += [child for _, child in reversed(behind)]
            left.append(~i)
            left += sorted(left_of.get(i, ()), key=by_rank, reverse=True)
        if walked != list(range(len(self._runs))):
            raise ValueError("elements are not in the order of their tree")

    # -- looking --------------------------------------------------------------------------------

    def shown(self, start: int = 0, end: int | None = None) -> Iterator[Element]:
        """The elements that users see at the positions `start` to before `end`. O(runs)."""
        end = self.size if end is None else min(end, self.size)
        position = 0
        for run in self._runs:
            if position >= end:
                return
            if run.values is None:
                continue
            behind = position + run.length
            for k in range(max(0, start - position), min(run.length, end - position)):
                yield Element(run.id_at(k), run.values[k])
            position = behind

    def shown_rows(self) -> list[tuple[ElementId, list[bytes]]]:
        """The same, in rows: ids that follow each other, and the values. Equal for equal lists."""
        rows: list[tuple[ElementId, list[bytes]]] = []
        following: ElementId | None = None
        for run in self._runs:
            if run.values is None:
                continue
            if run.first == following:
                rows[-1][1].extend(run.values)
            else:
                rows.append((run.first, list(run.values)))
            following = run.id_at(run.length)
        return rows

    def position(self, one: ElementId) -> tuple[int, bool] | None:
        """How many that users see stand before an element, and is it one of them; None: gone."""
        found = self._find(one)
        if found is None:
            return None
        i, k = found
        before = sum(run.length for run in self._runs[:i] if run.values is not None)
        is_shown = self._runs[i].values is not None
        return before + (k if is_shown else 0), is_shown

    def place(self, index: int) -> Place:
        """Where an element goes that shall stand at the position `index` (0 … size). O(runs)."""
        left, right = self._around(index)
        self._hint = 0 if left is None else left[0]
        parent = None if left is None else self._id(left)
        following = self._following(left)
        first = None if following is None else self._up(following, LEFT)
        if following is None or first is None or first.parent != parent or first.side == LEFT:
            return Place(parent, RIGHT)  # nothing hangs below it on that side
        if following == right:
            return Place(self._id(right), LEFT)
        return Place(parent, RIGHT, first.generation + 1)

    def _around(self, index: int) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """The elements that users see before and at a position."""
        left: tuple[int, int] | None = None
        position = 0
        for i, run in enumerate(self._runs):
            if run.values is None:
                continue
            if index < position + run.length:
                k = index - position
                return (i, k - 1) if k else left, (i, k)
            position += run.length
            left = i, run.length - 1
        return left, None

    def _following(self, at: tuple[int, int] | None) -> tuple[int, int] | None:
        """What comes next, deleted or not; None: nothing."""
        i, k = (0, 0) if at is None else (at[0], at[1] + 1)
        if i < len(self._runs) and k == self._runs[i].length:
            i, k = i + 1, 0
        return (i, k) if i < len(self._runs) else None

    def _id(self, at: tuple[int, int]) -> ElementId:
        return self._runs[at[0]].id_at(at[1])

    def _find(self, one: ElementId) -> tuple[int, int] | None:
        """The run of an element and its place in that. O(runs from the hint to there)."""
        return self._find_near(one, min(self._hint, len(self._runs) - 1))

    def _up(self, at: tuple[int, int], side: bool) -> Child:
        """From an element up while it is a child on that side: the last."""
        i, k = at
        while True:
            run = self._runs[i]
            if k > 0:
                if side == LEFT:
                    return Child(run.id_at(k), run.id_at(k - 1), RIGHT, 0)
                k = 0
            if run.side != side or run.parent is None:
                return run.child
            above = self._find_near(run.parent, i)
            assert above is not None, "every element hangs below one that is there"
            i, k = above

    def _find_near(self, one: ElementId, i: int) -> tuple[int, int] | None:
        """The same as `_find`, of an element that is most likely next to run `i`."""
        runs = self._runs
        low, high = i, i + 1
        while low >= 0 or high < len(runs):
            if high < len(runs):
                if (k := runs[high].place_of(one)) >= 0:
                    return high, k
                high += 1
            if low >= 0:
                if (k := runs[low].place_of(one)) >= 0:
                    return low, k
                low -= 1
        return None

    def _end(self, at: tuple[int, int]) -> int:
        """The run behind the last element that hangs below one.

        Those that hang below an element stand in a row, so it looks at no others.
        """
        i, k = at
        inside = Spans()
        inside.add(self._runs[i].part(k, self._runs[i].length))
        j = i + 1
        while j < len(self._runs):
            child = self._up((j, 0), LEFT)
            if child.side == LEFT or child.parent not in inside:
                break
            inside.add(self._runs[j])
            j += 1
        return j

    def _start(self, i: int) -> int:
        """The run of the first element below the first one of run `i`."""
        inside = Spans()
        inside.add(self._runs[i])
        while i > 0:
            child = self._up((i - 1, self._runs[i - 1].length - 1), RIGHT)
            if child.side == RIGHT or child.parent not in inside:
                break
            i -= 1
            inside.add(self._runs[i])
        return i

    def aim(self, run: int) -> None:
        """Look for the next element at this run first."""
        self._hint = run

    @property
    def aimed_at(self) -> int:
        """The run that was named last."""
        return self._hint

    def index(self) -> Callable[[ElementId], int | None]:
        """Tells in which run an element is now. O(runs log runs), then O(log runs) each."""
        index = Index(self._runs)

        def run_of(one: ElementId) -> int | None:
            found = index.find(one)
            return None if found is None else found[0]

        return run_of

    # -- changing -------------------------------------------------------------------------------

    def inserted(self, first: ElementId, place: Place, values: Sequence[bytes]) -> Elements:
        """With new elements, the first at a place and each other as the right child before it.

        What something stood in for does not come any more, unless a peer has made that up.
        """
        if not self._stand_ins.isdisjoint(ids_from(first, len(values))):
            return self
        changed = self._copy()
        changed.size += len(values)
        changed.size_bytes += sum(map(len, values))
        parent, side, generation = place
        changed._put(Run(first, len(values), parent, side, tuple(values), generation))
        return changed

    def deleted(self, first: ElementId, count: int) -> Elements:
        """Without the elements of a range of ids, as far as users see them."""
        changed = self._copy()
        while count > 0:
            done = 1
            found = changed._find(first)
            if found is not None:
                i, k = found
                run = changed._runs[i]
                done = min(count, run.length - k)
                if run.values is not None:
                    changed._runs[i : i + 1] = [
                        part
                        for part in (
                            run.part(0, k) if k else None,
                            run.part(k, k + done)._replace(values=None),
                            run.part(k + done, run.length) if k + done < run.length else None,
                        )
                        if part is not None
                    ]
                    changed._hint = i
                    changed.size -= done
                    changed.size_bytes -= sum(map(len, run.values[k : k + done]))
            first = later_id(first, done)
            count -= done
        return changed

    def settled(self, named: Iterable[ElementId]) -> Elements:
        """Without the deleted elements below which nothing is shown. O(runs log runs).

        Those that are `named` stay, for operations that are still to come put others below them.
        """
        index = Index(self._runs)
        #: How many of each run stay: none behind the last one that is shown or stands above others.
        keep = [0 if run.values is None else run.length for run in self._runs]
        left = [up for run in self._runs if run.values is not None and (up := run.parent)]
        left += named
        while left:
            found = index.find(left.pop())
            if found is None:
                continue
            i, k = found
            if keep[i] == 0 and (up := self._runs[i].parent):
                left.append(up)
            keep[i] = max(keep[i], k + 1)
        runs = [run.part(0, count) for run, count in zip(self._runs, keep, strict=True) if count]
        return Elements(runs, self.size, self.size_bytes, self._stand_ins)

    def _copy(self) -> Elements:
        return Elements(list(self._runs), self.size, self.size_bytes, self._stand_ins, self._hint)

    def _put(self, run: Run) -> None:
        if run.parent is None:
            self._put_right(run, 0)
            return
        found = self._find(run.parent)
        if found is None:
            self._put_right(Run(run.parent, 1, None, RIGHT, None), 0)
            self._stand_ins |= {run.parent}
            found = self._find(run.parent)
            assert found is not None
        i, k = found
        if run.side == RIGHT:
            if k + 1 < self._runs[i].length:
                # What comes next in the run is a sibling, and all behind it hangs below that one.
                self._split(i, k + 1)
            self._put_right(run, i + 1)
        else:
            self._put_left(run, i, k)

    def _put_right(self, run: Run, j: int) -> None:
        """Put a right child among its siblings, which begin at run `j`."""
        while j < len(self._runs):
            sibling = self._up((j, 0), LEFT)
            if sibling.side == LEFT or sibling.parent != run.parent:
                break
            if sibling.rank > run.child.rank:
                break
            at = self._find(sibling.id)
            assert at is not None
            j = self._end(at)
        before = self._runs[j - 1] if j else None
        if before is not None and before.joins(run):
            self._runs[j - 1] = before.with_more(run)
            self._hint = j - 1
        else:
            self._runs.insert(j, run)
            self._hint = j

    def _put_left(self, run: Run, i: int, k: int) -> None:
        """Put a left child of element `k` of run `i` among its siblings, which end there."""
        if k:
            self._split(i, k)
            i += 1
        parent = self._runs[i]
        j = i
        while parent.has_left and j > 0:
            sibling = self._up((j - 1, self._runs[j - 1].length - 1), RIGHT)
            if sibling.side == RIGHT or sibling.parent != run.parent or sibling.id < run.first:
                break
            at = self._find(sibling.id)
            assert at is not None
            j = self._start(at[0])
        self._runs[i] = parent._replace(has_left=True)
        self._runs.insert(j, run)
        self._hint = j

    def _split(self, i: int, k: int) -> None:
        run = self._runs[i]
        self._runs[i : i + 1] = [run.part(0, k), run.part(k, run.length)]
