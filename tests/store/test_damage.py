"""Whatever lies in the data directory: opening it fails with a clear error, changes no byte, and
never ends the process. (LMDB alone would: it maps the file, and a missing page is a SIGBUS.)"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import lmdb
import pytest

from crdtdb.errors import DamagedStore, NewerFormat
from crdtdb.store.base import Table
from crdtdb.store.lmdb import LmdbStore
from store import children

PAGE = 4096


def make_store(path: Path) -> None:
    """A store with deep trees, long keys, large values and free pages."""
    random = Random(0)
    store = LmdbStore.open(path)
    for _ in range(10):
        store.commit(
            {
                table: {
                    random.randbytes(random.choice([3, 30, 300, 1500])): random.randbytes(
                        random.choice([0, 50, 3000, 20_000])
                    )
                    for _ in range(40)
                }
                for table in Table
            }
        )
        with store.snapshot() as snapshot:
            held = [key for key, _ in snapshot.scan(Table.RECORDS)]
        store.commit({Table.RECORDS: dict.fromkeys(random.sample(held, 15))})
    store.commit({Table.META: {b"at the end": bytes(200_000)}})
    store.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "data"
    make_store(path)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def contents(path: Path) -> list[list[tuple[bytes, bytes]]]:
    store = LmdbStore.open(path)
    with store.snapshot() as snapshot:
        held = [list(snapshot.scan(table)) for table in Table]
    store.close()
    return held


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with (path / "data.mdb").open("r+b") as file:
        file.seek(offset)
        file.write(data)


def cut(path: Path, size: int) -> None:
    with (path / "data.mdb").open("r+b") as file:
        file.truncate(size)


def size_of(path: Path) -> int:
    return (path / "data.mdb").stat().st_size


def replace_by_another_environment(path: Path) -> None:
    (path / "data.mdb").unlink()
    environment = lmdb.open(str(path), max_dbs=2)
    environment.open_db(b"records")
    environment.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "half of the file": lambda path: cut(path, size_of(path) // 2),
    "the last page is missing": lambda path: cut(path, size_of(path) - PAGE),
    "half of the last page is missing": lambda path: cut(path, size_of(path) - PAGE // 2),
    "meta pages only": lambda path: cut(path, 2 * PAGE),
    "half a meta page": lambda path: cut(path, 100),
    "an empty file": lambda path: cut(path, 0),
    "no file": lambda path: (path / "data.mdb").unlink(),
    "meta pages of zeros": lambda path: overwrite(path, 0, bytes(2 * PAGE)),
    "first meta page of zeros": lambda path: overwrite(path, 0, bytes(PAGE)),
    "second meta page of zeros": lambda path: overwrite(path, PAGE, bytes(PAGE)),
    "meta pages of noise": lambda path: overwrite(path, 0, Random(1).randbytes(2 * PAGE)),
    "meta pages exchanged": lambda path: overwrite(
        path,
        0,
        (path / "data.mdb").read_bytes()[PAGE : 2 * PAGE] + (path / "data.mdb").read_bytes()[:PAGE],
    ),
    "all zeros": lambda path: overwrite(path, 0, bytes(size_of(path))),
    "all noise": lambda path: overwrite(path, 0, Random(2).randbytes(size_of(path))),
    "no page but the meta pages": lambda path: overwrite(
        path, 2 * PAGE, bytes(size_of(path) - 2 * PAGE)
    ),
    "another environment of LMDB": replace_by_another_environment,
    "an empty FORMAT": lambda path: (path / "FORMAT").write_bytes(b""),
    "another FORMAT": lambda path: (path / "FORMAT").write_bytes(b"somethingdb 1\n"),
    "no FORMAT": lambda path: (path / "FORMAT").unlink(),
}


@pytest.mark.parametrize("has_lock", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_and_left_alone(path: Path, damage: str, has_lock: bool) -> None:
    DAMAGES[damage](path)
    if not has_lock:  # as in a backup that left it out
        (path / "LOCK").unlink()
    before = files(path)
    with pytest.raises(DamagedStore, match=re.escape(str(path))) as refusal:
        LmdbStore.open(path)
    assert re.search("backup|choose an empty directory", str(refusal.value))
    assert files(path) == before


@pytest.mark.parametrize("table", Table)
def test_a_table_without_its_root(tmp_path: Path, table: Table) -> None:
    path = tmp_path / "data"
    store = LmdbStore.open(path)
    store.commit({each: {b"k": b"value of " + each.value.encode()} for each in Table})
    store.close()
    overwrite(path, page_of(path, b"value of " + table.value.encode()) * PAGE, bytes(PAGE))
    with pytest.raises(DamagedStore, match="holds something else"):
        LmdbStore.open(path)


@pytest.mark.parametrize("name", ["notes.txt", "data.mdb", ".hidden"])
def test_a_directory_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(DamagedStore, match="empty directory"):
        LmdbStore.open(tmp_path)
    assert files(tmp_path) == {name: b"mine"}


def test_a_newer_format(path: Path) -> None:
    (path / "FORMAT").write_bytes(b"crdtdb 12\n")
    before = files(path)
    with pytest.raises(NewerFormat, match="format 12"):
        LmdbStore.open(path)
    assert files(path) == before


@pytest.mark.parametrize("lock", [b"", b"noise" * 3000])
def test_the_reader_table_of_lmdb_does_not_matter(path: Path, sound: Path, lock: bytes) -> None:
    (path / "lock.mdb").write_bytes(lock)
    assert contents(path) == contents(sound)


def leave_short(path: Path) -> None:
    """Take pages at the end of the file and give them back, in one transaction."""
    environment = lmdb.open(str(path), map_size=2**30, max_dbs=20)
    table = environment.open_db(b"records", create=False)
    with environment.begin(write=True) as transaction:
        transaction.put(b"stays", b"x", db=table)
        transaction.put(b"goes", bytes(100 * PAGE), db=table)
        transaction.delete(b"goes", db=table)
    assert size_of(path) < environment.info()["last_pgno"] * PAGE
    environment.close()


def test_a_file_that_is_short_of_free_pages_only_is_sound(path: Path, sound: Path) -> None:
    """LMDB does not write such pages, so the number of the last page proves nothing."""
    leave_short(path)
    assert sum(map(len, contents(path))) == sum(map(len, contents(sound))) + 1
    cut(path, size_of(path) - 10 * PAGE)
    with pytest.raises(DamagedStore):
        LmdbStore.open(path)


def child_opens_noise(sound: str, scratch: str) -> None:
    for number in range(150):
        random = Random(number)
        path = Path(shutil.copytree(sound, Path(scratch, str(number))))
        size = size_of(path)
        for _ in range(random.choice([1, 1, 1, 20])):
            near = random.choice([2 * PAGE, 20 * PAGE, size])
            length = random.choice([1, 8, 100, PAGE])
            overwrite(path, random.randrange(near), random.randbytes(length))
        if random.random() < 0.3:
            cut(path, random.randrange(size))
        try:
            LmdbStore.open(path).close()
            print("opened")
        except DamagedStore:
            print("refused")
        shutil.rmtree(path)


def test_no_noise_ends_the_process(sound: Path, tmp_path: Path) -> None:
    said = children.run(child_opens_noise, sound, tmp_path)
    assert len(said) == 150
    assert set(said) == {"opened", "refused"}


def page_of(path: Path, place: bytes) -> int:
    """The number of the page that holds some bytes."""
    return (path / "data.mdb").read_bytes().index(place) // PAGE


def flip(path: Path, offset: int, length: int) -> None:
    held = (path / "data.mdb").read_bytes()[offset : offset + length]
    overwrite(path, offset, bytes(byte ^ 0xFF for byte in held))


@pytest.mark.parametrize("table", Table)
def test_a_root_page_whose_entries_are_flipped_once_ended_the_process(
    tmp_path: Path, table: Table
) -> None:
    """Its header was in order, so LMDB got it, followed offsets out of the map, and died."""
    path = tmp_path / "data"
    store = LmdbStore.open(path)
    store.commit({each: {b"k": b"value of " + each.value.encode()} for each in Table})
    store.close()
    flip(path, page_of(path, b"value of " + table.value.encode()) * PAGE + 16, 64)
    before = files(path)
    with pytest.raises(DamagedStore, match="page"):
        LmdbStore.open(path)
    assert files(path) == before


def child_flips_and_uses(sound: str, scratch: str) -> None:
    """Flip some bytes of this page and that, then read and write everything."""
    for number in range(80):
        random = Random(number)
        path = Path(shutil.copytree(sound, Path(scratch, str(number))))
        page = random.randrange(size_of(path) // PAGE)
        if random.random() < 0.5:
            flip(path, page * PAGE + random.choice([8, 10, 12, 14, 16, 18]), random.choice([1, 64]))
        else:
            place = random.randrange(PAGE - 8)
            flip(path, page * PAGE + place, random.choice([1, 8]))
        try:
            held = contents(path)
            store = LmdbStore.open(path)
            for table, entries in zip(Table, held, strict=True):
                store.commit({table: dict.fromkeys(key for key, _ in entries)})
            store.close()
            print("worked")
        except DamagedStore:
            print("refused")
        shutil.rmtree(path)


def test_no_flipped_bytes_in_any_page_end_the_process(tmp_path: Path) -> None:
    """What is opened can be read, and emptied."""
    store = LmdbStore.open(tmp_path / "sound")
    random = Random(3)
    for _ in range(3):
        for table in Table:
            keys = (random.randbytes(random.choice([3, 30, 300, 600])) for _ in range(30))
            store.commit({table: {key: random.randbytes(100) for key in keys}})
    store.commit({Table.META: {b"large": bytes(9_000)}})
    store.close()
    said = children.run(child_flips_and_uses, tmp_path / "sound", tmp_path)
    assert set(said) == {"worked", "refused"}


def drop_table(path: Path, table: Table) -> None:
    """Make a store one of a crdtdb that did not know the table."""
    environment = lmdb.open(str(path), map_size=2**30, max_dbs=20)
    for name in (table.value.encode(), table.value.encode() + b".long"):
        dropped = environment.open_db(name, create=False)
        with environment.begin(write=True) as transaction:
            transaction.drop(dropped)
    environment.close()


@pytest.mark.parametrize("table", [Table.CONFLICTS, Table.STAGED])
def test_a_store_from_before_a_table_was_thought_of(path: Path, sound: Path, table: Table) -> None:
    drop_table(path, table)
    held = dict(zip(Table, contents(sound), strict=True)) | {table: []}
    assert contents(path) == list(held.values())
    store = LmdbStore.open(path)
    store.commit({table: {b"k": b"v"}})
    store.close()
    assert contents(path)[list(Table).index(table)] == [(b"k", b"v")]


@pytest.mark.parametrize("table", [Table.RECORDS, Table.META])
def test_a_store_that_lost_a_table_that_every_store_had(path: Path, table: Table) -> None:
    drop_table(path, table)
    before = files(path)
    with pytest.raises(DamagedStore, match=f"table {table.value}.* is missing"):
        LmdbStore.open(path)
    assert files(path) == before


def test_a_page_that_two_tables_share(tmp_path: Path) -> None:
    """LMDB would write it twice, and give it back twice."""
    path = tmp_path / "data"
    store = LmdbStore.open(path)
    store.commit({each: {b"k": b"value of " + each.value.encode()} for each in Table})
    store.close()
    data = (path / "data.mdb").read_bytes()
    heads, meta = (page_of(path, b"value of " + name) for name in (b"heads", b"meta"))
    roots = data.rindex(b"heads.long")
    place = data.rindex(heads.to_bytes(8, sys.byteorder), 0, roots + PAGE // 2)
    overwrite(path, place, meta.to_bytes(8, sys.byteorder))
    with pytest.raises(DamagedStore, match=f"page {meta} is in two places"):
        LmdbStore.open(path)


if __name__ == "__main__":
    children.main(globals())
