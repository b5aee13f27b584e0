"""Reading a commit history, and the plain loop over it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from crdtdb_server.demo.tally import Tally
from crdtdb_server.demo.trace import BadTrace, Changed, Commit, Trace, read_trace

GOOD = {"t": 1237714200, "who": 1, "region": "emea", "files": [["src/main.c", 285, 3]]}


def read(directory: Path, *lines: object) -> Trace:
    file = directory / "commits.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("\n".join(texts) + "\n")
    return read_trace(file)


def test_a_history_is_read_whole(tmp_path: Path) -> None:
    named = GOOD | {"who": "ann", "subject": "left alone"}
    commits, regions = read(tmp_path, GOOD, "  ", named)
    assert commits[0] == Commit(1237714200, 1, "emea", [Changed("src/main.c", 285, 3)])
    assert (commits[1].who, commits[1].added, commits[1].removed) == ("ann", 285, 3)
    assert regions == ("emea", "eu", "us")


def test_the_regions_of_the_file_are_taken_the_busiest_first(tmp_path: Path) -> None:
    regions = ["us", "eu", "eu", "apac", "eu", "us"]
    assert read(tmp_path, *(GOOD | {"region": region} for region in regions)).regions == (
        "eu",
        "us",
        "apac",
    )
    assert read(tmp_path, GOOD | {"region": "us"}).regions == ("us", "eu", "ap")


@pytest.mark.parametrize("name", ["commits.jsonl.gz", "commits"])
def test_a_gzip_file_is_known_by_its_bytes(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert len(read_trace(file).commits) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no commits"),
        ("{", "line 2 is no commit"),
        ("[]", "Expected `object`"),
        ({k: v for k, v in GOOD.items() if k != "who"}, "missing required field `who`"),
        (GOOD | {"t": "yesterday"}, "Expected `int`, got `str` - at `$.t`"),
        (GOOD | {"who": True}, "at `$.who`"),
        (GOOD | {"who": ""}, "at `$.who`"),
        (GOOD | {"who": "a\0"}, "must not contain U+0000"),
        (GOOD | {"region": "e u"}, "at `$.region`"),
        (GOOD | {"region": "eu\n"}, "at `$.region`"),
        (GOOD | {"files": []}, "it changes no files"),
        (GOOD | {"files": [["a", 1]]}, "at `$.files[0]`"),
        (GOOD | {"files": [["a", -1, 0]]}, "at `$.files[0][1]`"),
        (GOOD | {"files": [["a", 1.5, 0]]}, "at `$.files[0][1]`"),
        (GOOD | {"files": [["a", 2**53, 0]]}, "at `$.files[0][1]`"),
        (GOOD | {"files": [["a", 2**53 - 1, 0], ["b", 1, 0]]}, "it changes more than"),
        (GOOD | {"files": [["", 1, 0]]}, "must not be empty"),
        (GOOD | {"files": [["..", 1, 0]]}, "must not be"),
        (GOOD | {"files": [["x" * 1_025, 1, 0]]}, "too many bytes"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    lines = [line] if line == "" else [GOOD, line]
    with pytest.raises(BadTrace) as caught:
        read(tmp_path, *lines)
    assert message in str(caught.value)
    assert line == "" or "line 2 is no commit" in str(caught.value)


def test_a_fourth_region_is_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match=r"line 4 brings a fourth region, 'd'; .*: a, b, c"):
        read(tmp_path, *(GOOD | {"region": region} for region in "abcd"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="No such file"):
        read_trace(tmp_path / "nowhere")
    with pytest.raises(BadTrace, match="Is a directory"):
        read_trace(tmp_path)
    file = tmp_path / "commits.gz"
    file.write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-9])
    with pytest.raises(BadTrace, match="damaged gzip"):
        read_trace(file)
    file.write_bytes(b'{"t": 1, "who": "\xff"}')
    with pytest.raises(BadTrace, match="line 1 is no commit"):
        read_trace(file)


def commit(who: int, region: str, *files: tuple[str, int, int], t: int = 0) -> Commit:
    return Commit(t, who, region, [Changed(*file) for file in files])


def test_the_tally_is_sums_sets_and_last_commits() -> None:
    tally = Tally()
    tally.add(commit(1, "eu", ("a", 5, 2), ("b", 1, 0), t=10), 0)
    tally.add(commit(2, "us", ("a", 0, 4), t=11), 0)
    tally.add(commit(1, "eu", ("a", 1, 1), t=12), 0)
    tally.add(commit(3, "us", ("image", 0, 0), t=13), 1)
    assert (tally.commits, tally.added, tally.removed) == (4, 7, 7)
    assert tally.lines == {"1": 4, "2": -4}
    assert tally.paths == {"1": {"a", "b"}, "2": {"a"}, "3": {"image"}}
    assert tally.last == {
        "a": [{"t": 12, "who": 1}, {"t": 11, "who": 2}],
        "b": [{"t": 10, "who": 1}],
        "image": [{"t": 13, "who": 3}],
    }


def test_a_later_round_has_seen_all_of_an_earlier_one() -> None:
    tally = Tally()
    tally.add(commit(1, "eu", ("a", 1, 0), t=10), 0)
    tally.add(commit(2, "us", ("a", 1, 0), t=11), 0)
    tally.add(commit(3, "us", ("a", 1, 0), t=9), 1)
    assert tally.last == {"a": [{"t": 9, "who": 3}]}
