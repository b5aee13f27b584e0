"""The runs of `list` are the tree that Fugue describes, and replicas agree on its order."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.reclaim import Walk
from crdtdb.types._fugue import Elements, Place
from crdtdb.types._runs import LEFT, RIGHT, ElementId, Row, ids_from
from oracle.checks import check_books
from replicas import Replica, exchange

_WRITERS: Final = (1, 2, 3)


class _Tree:
    """Fugue as the paper tells it: nodes, and the order by walking them."""

    def __init__(self) -> None:
        self.up: dict[ElementId, Place] = {}
        self.values: dict[ElementId, bytes | None] = {}

    def insert(self, first: ElementId, place: Place, values: list[bytes]) -> None:
        if place.parent is not None and place.parent not in self.up:
            self.up[place.parent], self.values[place.parent] = Place(None, RIGHT), None
        for one, value in zip(ids_from(first, len(values)), values, strict=True):
            self.up[one], self.values[one] = place, value
            place = Place(one, RIGHT)

    def delete(self, one: ElementId) -> None:
        if one in self.values:
            self.values[one] = None

    def walk(self) -> list[ElementId]:
        order: list[ElementId] = []

        def below(parent: ElementId | None, side: bool) -> list[ElementId]:
            children = [one for one, place in self.up.items() if place[:2] == (parent, side)]
            return sorted(children, key=lambda one: (-self.up[one].generation, one))

        def visit(one: ElementId) -> None:
            for child in below(one, LEFT):
                visit(child)
            order.append(one)
            for child in below(one, RIGHT):
                visit(child)

        for top in below(None, RIGHT):
            visit(top)
        return order

    def shown(self) -> list[tuple[ElementId, bytes]]:
        return [(one, v) for one in self.walk() if (v := self.values[one]) is not None]


def _same(elements: Elements, tree: _Tree) -> None:
    elements.check()
    assert [tuple(one) for one in elements.shown()] == tree.shown()
    assert elements.size == len(tree.shown())
    assert elements.size_bytes == sum(len(value) for _, value in tree.shown())
    assert [one for row in elements.dump() for one in _ids(row)] == tree.walk()
    again = Elements.load(elements.dump())
    assert again.dump() == elements.dump()


def _ids(row: Row) -> list[ElementId]:
    *_, held = row
    first = row[0]
    return list(ids_from(first, held if isinstance(held, int) else len(held)))


@given(st.integers(0, 2**32))
def test_runs_are_the_tree(seed: int) -> None:
    """Elements are put below any others, living, deleted or missing, by writers in any order."""
    random = Random(seed)
    elements, tree = Elements.load([]), _Tree()
    last = dict.fromkeys(_WRITERS, 0)
    missing: list[ElementId] = [(7, 1, 0), (7, 2, 0), (0, 1, 2)]
    for _ in range(random.randint(1, 40)):
        known = list(tree.up)
        if known and random.random() < 0.25:
            first, count = random.choice(known), random.choice((1, 1, 2, 5))
            elements = elements.deleted(first, count)
            for one in ids_from(first, count):
                tree.delete(one)
        else:
            writer = random.choice(_WRITERS)
            last[writer] += random.choice((1, 1, 1, 2))
            values = [b"%d" % random.randint(0, 9) for _ in range(random.choice((1, 1, 1, 3)))]
            first = (writer, last[writer], int(len(values) > 1))
            if random.random() < 0.5:
                place = elements.place(random.randint(0, elements.size))
            else:
                parent = random.choice([*known, *missing, None])
                side = RIGHT if parent is None or random.random() < 0.5 else LEFT
                generation = random.choice((0, 0, 1, 2)) if side == RIGHT else 0
                place = Place(parent, side, generation)
            before = elements.dump()
            changed = elements.inserted(first, place, values)
            assert elements.dump() == before
            elements = changed
            tree.insert(first, place, values)
        if random.random() < 0.1:
            elements = Elements.load(elements.dump())
        _same(elements, tree)


@given(st.integers(0, 2**32))
def test_an_element_is_put_where_it_shall_stand(seed: int) -> None:
    random = Random(seed)
    elements, shown = Elements.load([]), list[bytes]()
    for number in range(1, random.randint(2, 40)):
        index = random.randint(0, len(shown))
        value = b"%d" % number
        place = elements.place(index)
        assert place.parent is None or elements.position(place.parent) is not None
        elements = elements.inserted((1, number, 0), place, [value])
        shown.insert(index, value)
        if random.random() < 0.4:
            gone = random.randrange(len(shown))
            (one,) = elements.shown(gone, gone + 1)
            assert elements.position(one.id) == (gone, True)
            elements = elements.deleted(one.id, 1)
            del shown[gone]
        if random.random() < 0.2:
            elements = elements.settled(())
        assert [one.value for one in elements.shown()] == shown


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_what_is_named_stays_with_all_above_it(side: bool) -> None:
    elements = Elements.load([]).inserted((1, 1, 1), Place(None, RIGHT), [b"1", b"2", b"3", b"4"])
    elements = elements.inserted((1, 2, 0), Place((1, 1, 2), side), [b"5"])
    elements = elements.deleted((1, 1, 1), 4).deleted((1, 2, 0), 1)
    assert elements.settled(()).dump() == []
    assert elements.settled([(1, 2, 0)]).position((1, 1, 2)) == (0, False)
    assert elements.settled([(1, 2, 0)]).position((1, 1, 3)) is None
    elements.settled([(1, 2, 0)]).check()


@pytest.mark.parametrize(
    "rows",
    [
        [((1, 1, 0), None, LEFT, 0, [b"1"])],
        [((1, 1, 0), (1, 2, 0), RIGHT, 0, [b"1"])],
        [((1, 1, 0), None, RIGHT, 0, [b"1"]), ((1, 1, 0), None, RIGHT, 0, [b"1"])],
        [((1, 2, 0), None, RIGHT, 0, [b"1"]), ((1, 1, 0), None, RIGHT, 0, [b"1"])],
        [((1, 1, 0), (1, 3, 0), RIGHT, 0, [b"1"]), ((1, 3, 0), (1, 1, 0), RIGHT, 0, [b"1"])],
        [((1, 1, 0), None, RIGHT, 0, [b"1"]), ((1, 2, 0), (1, 1, 0), LEFT, 0, 3)],
        [((1, 1, 0), None, RIGHT, 0, [b"1"]), ((1, 2, 0), None, RIGHT, 1, [b"1"])],
        [((1, 2, 0), (1, 1, 0), LEFT, 1, [b"1"]), ((1, 1, 0), None, RIGHT, 0, [b"1"])],
    ],
)
def test_what_is_no_tree_in_its_order_is_found(
    rows: list[Row],
) -> None:
    with pytest.raises(ValueError, match="element"):
        Elements.load(rows).check()


# Replicas -----------------------------------------------------------------------------------------


def _values(replica: Replica) -> list[Any]:
    return [entry["value"] for entry in replica.value("list")]


@given(st.integers(0, 2**32))
def test_runs_that_are_typed_concurrently_never_mix(seed: int) -> None:
    """Each of three types forwards or backwards at one place, around elements that others delete.

    Whatever comes first: what one of them typed stands together.
    """
    random = Random(seed)
    replicas = [Replica(number) for number in (1, 2, 3)]
    replicas[0].do("list", "insert", values=list("012345"))
    exchange(*replicas)
    gap = random.randint(0, 6)
    for replica in replicas:
        at = gap
        for _ in range(random.randint(0, 2)):
            replica.do("list", "insert", value="!")
            gone = random.randrange(len(_values(replica)) - 1)
            replica.do("list", "delete", index=gone)
            at -= gone < at
        forwards = random.random() < 0.5
        for number in range(random.randint(2, 4)):
            place = at + number if forwards else at
            replica.do("list", "insert", index=place, value=f"{replica.name}{number}")
    exchange(*replicas)
    shown = _values(replicas[0])
    for replica in replicas:
        own = [i for i, value in enumerate(shown) if value.startswith(replica.name)]
        assert own == list(range(own[0], own[-1] + 1)), shown


def test_a_deleted_element_stays_while_an_insert_beside_it_is_not_stable() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("list", "insert", values=["a", "c"])
    a.do("list", "insert", index=1, value="b")
    exchange(a, b, c)
    b.do("list", "insert", index=2, value="behind b")
    c.do("list", "delete", index=1)
    seen_by_all = a.seen.join(c.seen)
    exchange(a, b, c)
    for replica in (a, b, c):
        replica.reclaim(seen_by_all)
        assert _values(replica) == ["a", "behind b", "c"]
        check_books(replica.store)
    newcomer = Replica(9)
    newcomer.pull(a)
    assert newcomer.digest() == a.digest()


@pytest.mark.parametrize("settle", [False, True])
def test_what_an_evicted_replica_put_in_beside_what_was_deleted_stays_in_its_place(
    settle: bool,
) -> None:
    """Nobody waited until it had seen the delete: those who let the element go would differ."""
    a, evicted, c = Replica(1), Replica(2), Replica(3)
    a.do("list", "insert", values=["a", "c"])
    a.do("list", "insert", index=1, value="b")
    exchange(a, evicted, c)
    evicted.do("list", "insert", index=2, value="behind b")
    a.do("list", "delete", index=1)
    c.pull(a)
    walk = Walk(a.seen, evicted=() if settle else (evicted.engine.state.incarnation,))
    while not walk.done:
        a.engine.reclaim(walk, 100)
    a.pull(evicted)
    c.pull(evicted)
    assert (a.digest() == c.digest()) is not settle
    if not settle:
        assert _values(a) == ["a", "behind b", "c"]
        check_books(a.store)
