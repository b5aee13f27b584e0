"""A newcomer copies a donor's rows, page by page: checked, resumed after a kill, let go if bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
import xxhash
from msgspec import structs

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.head import Head
from crdtdb.replication import Phase, donor, newcomer, staging
from crdtdb.replication.messages import Copied, Copy
from crdtdb.replication.peers import Peer
from crdtdb.replication.pull import PULL_PATIENCE_MS
from crdtdb.rows import scan_heads
from crdtdb.scrub import Scrub
from crdtdb.store.base import Table
from crdtdb.transaction import Erase
from pulling import RECORDS, Pulling
from replicas import Replica, missing, update

PAGE: Final = 10
#: With the record that says that the newcomer is a member, and the donor's own.
ROWS: Final = RECORDS + 2
CART: Final = ObjectName("shop", "set", "k3")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(donor, "COPY_ROWS", PAGE)
    monkeypatch.setattr(donor, "PAGE_RECORDS", PAGE)
    monkeypatch.setattr(staging, "PART_RECORDS", 16)
    monkeypatch.setattr("crdtdb.replication.repair.PART_RECORDS", 16)
    monkeypatch.setattr(staging, "SHORT_PART_RECORDS", 16)
    monkeypatch.setattr("crdtdb.replication.repair.SHORT_PART_RECORDS", 16)


def assert_sound(replica: Replica) -> None:
    """Heads and sequence are what the records come to."""
    walk = Scrub()
    while not walk.done:
        assert replica.engine.scrub(walk, 100) == []
    assert b"copy" not in replica.rows()[Table.META]


@pytest.mark.parametrize("pages", range(1, 11))
def test_a_kill_at_each_page_sends_no_row_twice(pages: int) -> None:
    pair = Pulling()
    pair.write()
    pair.pages_left = pages
    pair.start()
    assert not len(pair.puller.seen)
    if pages < 10:
        assert len(pair.puller.rows()[Table.RECORDS]) == pages * PAGE
    pair.restart()
    pair.run_until_equal()
    assert pair.rows == ROWS
    assert_sound(pair.puller)


def test_nothing_is_served_before_all_is_there() -> None:
    pair = Pulling()
    pair.write()
    pair.pages_left = 5
    pair.start()
    progress = pair.machine.progress
    assert progress is not None
    assert (progress.records, progress.place, progress.is_complete) == (5 * PAGE, 5 * PAGE, False)
    assert progress.head == ROWS
    for _ in range(20):
        pair.tick()
        assert pair.machine.phase is Phase.BOOTSTRAPPING
        assert not len(pair.puller.seen)


def change_everything(replica: Replica) -> None:
    """Below and above what has been copied: added, removed, cut, counted, inserted."""
    for i in range(5):
        replica.do("list", "insert", key="l", index=17 + 2 * i, value=f"later {i}")
        replica.do("text", "insert", key="t", index=5 + i, text=f"{i}")
    write_everything(replica)
    for i in range(0, RECORDS, 3):
        replica.do("set", "remove", key=f"k{i % 7}", value=i)
    replica.do("set", "clear", key="k2")
    replica.do("set", "add", key="k2", value=1_000)
    replica.commit(Erase(address.type_prefix("shop", "register")))


@pytest.mark.parametrize("pages", range(0, 24, 2))
def test_what_changes_while_it_copies_is_pulled(pages: int) -> None:
    pair = Pulling()
    write_everything(pair.donor)
    pair.write()
    pair.pages_left = pages
    pair.start()
    change_everything(pair.donor)
    pair.restart()
    pair.run_until_equal()
    assert shown(pair.puller) == shown(pair.donor)
    assert_sound(pair.puller)


def test_what_is_pulled_comes_after_what_was_copied() -> None:
    """Of operations the order counts: what comes by the pull may continue what was copied.

    Copied rows have the donor's places; the pull, counted from one, would be joined before them.
    """
    pair = Pulling()
    pair.write()
    pair.donor.do("list", "insert", key="l", index=0, values=["a", "b"])
    pair.pages_left = 5
    pair.start()
    pair.donor.do("list", "insert", key="l", index=1, value="between")
    pair.restart()
    pair.run_until_equal()
    assert shown(pair.puller) == shown(pair.donor)
    assert not pair.machine.refusals


def test_a_damaged_row_of_the_pull_that_ends_it() -> None:
    """Operations that were put aside were taken for what another pull has left, and let go."""
    pair = Pulling()
    write_everything(pair.donor)
    pair.pages_left = 3
    pair.start()
    pair.write()
    while b"pull" not in pair.puller.rows()[Table.META]:
        pair.restart(pages=2)
    assert pair.puller.rows()[Table.STAGED]
    row = pair.puller.rows()[Table.META][b"pull"]
    pair.puller.store.commit({Table.META: {b"pull": row[:-1] + bytes((row[-1] ^ 0x41,))}})
    pair.restart()
    pair.run_until_equal()
    assert shown(pair.puller) == shown(pair.donor)
    assert_sound(pair.puller)


def test_deletes_that_are_let_go_meanwhile_do_not_come_back() -> None:
    """A newcomer keeps others from that as soon as it is known; here it is not."""
    pair = Pulling()
    pair.write()
    pair.pages_left = 5
    pair.start()
    for i in range(RECORDS):
        pair.donor.do("set", "remove", key=f"k{i % 7}", value=i)
    assert pair.donor.reclaim()
    pair.donor.do("set", "add", key="k0", value="new")
    pair.restart()
    pair.run_until_equal()
    assert pair.puller.value("set", "k1") == []
    assert pair.puller.value("set", "k0") == ["new"]
    assert_sound(pair.puller)


def test_a_donor_that_is_gone_is_not_gone_on_with() -> None:
    pair = Pulling()
    pair.write()
    pair.pages_left = 3
    pair.start()
    pair.donor.reopen(b"elsewhere")  # a copy: it takes a new identity
    pair.machines["a"] = pair._machine("a")
    pair.deliver([("a", send) for send in pair.machines["a"].start(pair.now_ms)])
    pair.pages_left = None
    pair.run(2 * PULL_PATIENCE_MS)
    pair.run_until_equal()
    assert_sound(pair.puller)


def test_a_donor_that_is_slow_is_asked_again_before_all_is_let_go() -> None:
    pair = Pulling()
    pair.write()
    pair.pages_left = 5
    pair.start()
    stranger = Peer(structs.replace(pair.machines["a"].me, incarnation=9, endpoint="c"))
    newcoming, asked = pair.machine._newcomer, []
    for _ in range(6):
        pair.machine._cluster.now_ms += PULL_PATIENCE_MS + 1
        assert not newcoming.waits
        asked += [endpoint for endpoint, _ in newcoming.begin(stranger)]
    assert asked[:3] == ["a", "a", "a"]
    assert set(asked[3:]) == {"c"}


def test_large_rows_make_small_pages() -> None:
    pair = Pulling()
    for number in range(40):
        name = ObjectName("shop", "register", f"k{number:02}")
        value = "x" * (200_000 if number % 4 else 10)
        pair.donor.commit(update(name, {"op": "set", "value": value}))
    page, most, rows = Copied(1, b"", 0, 0, [], False, 0), 0, 0
    while not page.is_last:
        after = page.rows[-1][0] if page.rows else b""
        found = donor.read_copy(pair.donor.engine, Copy(1, after, []))
        assert isinstance(found, Copied)
        page, rows = found, rows + len(found.rows)
        most = max(most, sum(len(row) for _, row in page.rows))
    assert rows == 41
    assert 1_000_000 < most < 1_300_000


def test_who_is_left_alone_half_way_begins_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.replication.copying._SWEEP_ROWS", 7)
    pair = Pulling()
    pair.write()
    pair.pages_left = 5
    pair.start()
    pair.away.add("a")
    pair.restart()
    while pair.machine.phase is Phase.BOOTSTRAPPING:
        pair.tick()
    held = [at for at in pair.puller.rows()[Table.RECORDS] if at.startswith(b"\x10shop")]
    assert held == []
    assert pair.puller.value("set", "k3") == []
    assert_sound(pair.puller)


# What no honest replica sends ------------------------------------------------------------------


def flipped(at: bytes, row: bytes) -> tuple[bytes, bytes]:
    return at, row[:-1] + bytes((row[-1] ^ 1,))


def sealed(at: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A row with a body that is none, and the right checksum."""
    record = b"\x01" + xxhash.xxh3_64_digest(at + body) + body
    return at, codec.pack_row(1, at, record)


BAD: dict[str, Callable[[bytes, bytes], tuple[bytes, bytes]]] = {
    "a flipped bit": flipped,
    "no record": lambda at, row: sealed(at, b"\x92\x90\x91nothing"),
    "cut short": lambda at, row: (at, row[:12]),
    "no address": lambda at, row: sealed(b"\x10shop\0set\0kz", row[17:]),
    "no such tail": lambda at, row: sealed(CART.prefix + b"\x09", row[17:]),
    "no such member": lambda at, row: sealed(CART.prefix + b"\x06\x99", row[17:]),
    "a member that is not UTF-8": lambda at, row: sealed(CART.prefix + b"\x060\xff\0", row[17:]),
    "two members in one": lambda at, row: sealed(CART.prefix + b"\x060a\0b\0", row[17:]),
    "a payload of another type": lambda at, row: sealed(at, codec.pack(([], [(7, 1, "x")]))),
    "a dot that is none": lambda at, row: sealed(at, codec.pack(([], [(7, 0, None)]))),
    "an operation of the future": lambda at, row: sealed(at, codec.pack(([], [(7, 9, None)]))),
    "a newer version": lambda at, row: (at, row[:8] + b"\x02" + row[9:]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_is_refused_with_all_that_came_before(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pulling()
    pair.write()
    pair.donor.do("set", "add", key="k3", value="text")
    is_bad = True

    def lying(engine: Any, copy: Copy) -> Any:
        page = donor.read_copy(engine, copy)
        if isinstance(page, Copied) and is_bad:
            text = address.member(CART, "text")
            rows = [BAD[what](at, row) if at == text else (at, row) for at, row in page.rows]
            return structs.replace(page, rows=sorted(rows))
        return page

    monkeypatch.setattr(newcomer, "read_copy", lying)
    pair.start()
    for _ in range(100):
        pair.tick()
        assert pair.machine.phase is Phase.BOOTSTRAPPING
    assert pair.machine.refusals.keys() <= {"bad-record", "beyond-claim", "newer-version"}
    assert pair.machine.refusals
    is_bad = False
    pair.run(60_000)
    pair.run_until_equal()
    assert_sound(pair.puller)


def test_rows_out_of_order_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pulling()
    pair.write()

    def endless(engine: Any, copy: Copy) -> Any:
        page = donor.read_copy(engine, Copy(copy.session, b"", copy.whole))
        assert isinstance(page, Copied)
        return structs.replace(page, after=copy.after, is_last=False)

    monkeypatch.setattr(newcomer, "read_copy", endless)
    pair.start()
    pair.run(1_000)
    assert pair.machine.refusals["endless-pull"]
    assert pair.machine.phase is Phase.BOOTSTRAPPING


def test_what_is_damaged_at_the_donor_is_not_taken_over() -> None:
    pair = Pulling()
    pair.write()
    at, row = next((at, row) for at, row in pair.donor.rows()[Table.RECORDS].items() if b"k3" in at)
    pair.donor.store.commit({Table.RECORDS: {at: flipped(at, row)[1]}})
    pair.start()
    pair.run(1_000)
    assert pair.machine.phase is Phase.BOOTSTRAPPING
    assert not len(pair.puller.seen)
    assert not pair.machine.refusals, "the donor says so itself"
    came = pair.rows
    assert came
    pair.donor.store.commit({Table.RECORDS: {at: row}})
    pair.run_until_equal()
    assert pair.rows == ROWS, "what had come before is kept"


# Of every kind ---------------------------------------------------------------------------------


def write_everything(replica: Replica) -> None:
    """Objects of many types, some of them removed, in whole or in part."""
    # The addresses of these operations come after those of the ones that build on them.
    earlier = Replica(9)
    for i in range(20):
        earlier.do("list", "insert", key="l", index=i, value=f"x{i}")
    replica.pull(earlier)
    for i in range(12):
        replica.do("register", "set", key=f"r{i}", value=i)
        replica.do("counter", "increment", key=f"c{i % 3}", by=i + 1)
        replica.do("list", "insert", key="l", index=19, value=i)
        replica.do("opcounter", "increment", key="o", by=1)
        replica.do(
            "map", "update", key="m", field=[f"f{i}"], do={"type": "set", "op": "add", "value": i}
        )
        for do in (
            {"type": "opcounter", "op": "increment"},
            {"type": "list", "op": "insert", "value": i},
            {"type": "text", "op": "insert", "index": 0, "text": str(i)},
        ):
            replica.do("map", "update", key="m", field=["a", f"g{i % 3}"], do=do)
        replica.do("rwset", "add", key="rw", values=[i, i + 1])
        replica.do("mvregister", "set", key="mv", value=i)
        replica.do("zset", "increment", key="z", member=f"m{i % 4}", by=i)
    replica.do("map", "remove", key="m", field=["a", "g0"])
    replica.do(
        "map", "update", key="m", field=["a", "g0"], do={"type": "list", "op": "insert", "value": 1}
    )
    for i in range(12):
        replica.do("text", "insert", key="t", index=i, text="x")
    replica.do("rwset", "remove", key="rw", value=3)
    replica.do("list", "delete", key="l", index=2, count=3)
    replica.do("set", "add", key="gone", values=list(range(30)))
    replica.do("set", "clear", key="gone")
    replica.do("set", "add", key="gone", value=7)
    replica.do("counter", "reset", key="c1")
    replica.commit(Erase(address.type_prefix("shop", "register")))
    replica.do("register", "set", key="r1", value="after")


@pytest.mark.parametrize("reclaims", [False, True])
def test_taken_over_as_joined(monkeypatch: pytest.MonkeyPatch, *, reclaims: bool) -> None:
    """A newcomer that takes records over holds what one that joins them holds, heads and all."""
    pair = Pulling()
    write_everything(pair.donor)
    if reclaims:
        assert pair.donor.reclaim() > 0
    joiner = Replica(3)
    pair.start()
    pair.run_until_equal()
    assert pair.rows
    joiner.engine.merge(
        missing(pair.donor.store, NOTHING),
        pair.donor.seen,
        pair.donor.engine.state.time,
        served=True,
        whole=pair.donor.engine.reclaimed.vector,
    )
    assert pair.puller.digest() == joiner.digest() == pair.donor.digest()
    assert shown(pair.puller) == shown(joiner) == shown(pair.donor)
    assert heads(pair.puller) == heads(joiner)


def shown(replica: Replica) -> list[object]:
    objects = [("set", "gone"), ("list", "l"), ("opcounter", "o"), ("map", "m"), ("rwset", "rw")]
    objects += [
        ("mvregister", "mv"),
        ("zset", "z"),
        ("counter", "c1"),
        ("register", "r1"),
        ("text", "t"),
    ]
    return [replica.value(kind, key) for kind, key in objects]


def heads(replica: Replica) -> dict[bytes, Head]:
    """Without the local places."""
    with replica.store.snapshot() as snapshot:
        return {prefix: head.numbered(0) for prefix, head in scan_heads(snapshot, b"\x10shop")}
