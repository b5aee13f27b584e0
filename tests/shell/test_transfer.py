"""`export` and `import`: files of lines, into a live replica and out of it."""

from __future__ import annotations

import json
import socket
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from commands import Run
from liveserver import live_server


def _line(type_name: str, key: str, value: Any) -> str:
    return json.dumps({"bucket": "shop", "type": type_name, "key": key, "value": value}) + "\n"


def test_what_is_exported_can_be_imported_elsewhere(crdtdb: Run, tmp_path: Path) -> None:
    crdtdb("update", "shop/set/cart:1", "add", 'values:=["pear", 1]')
    crdtdb("update", "blog/counter/views", "increment", "by=5")
    file = tmp_path / "all.jsonl"
    assert crdtdb("export", str(file)) == (0, "2 lines\n", "")
    assert len(file.read_text().splitlines()) == 2
    assert list(tmp_path.iterdir()) == [file]
    with live_server("us-1") as other:
        imported = crdtdb("import", str(file), "--url", other)
        assert imported == (0, "2 lines: 2 written, 0 wrong\n", "")
        got = crdtdb("get", "shop/set/cart:1", "--url", other)
        assert got.out == '1\n"pear"\n'
    part = tmp_path / "part.jsonl"
    exported = crdtdb("export", str(part), "--bucket", "shop", "--prefix", "cart:", "--json")
    assert exported.json == [{"lines": 1}]
    assert json.loads(part.read_text())["key"] == "cart:1"


def test_bad_lines_are_reported_by_number_and_the_others_go_on(crdtdb: Run, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    good = _line("counter", "k", 1)
    file.write_text(f"{good}{{\n{good}{_line('nope', 'k', 1)}")
    ran = crdtdb("import", str(file))
    assert (ran.code, ran.out) == (1, "4 lines: 2 written, 2 wrong\n")
    first, second = ran.err.splitlines()
    assert first.startswith("line 2: bad-request: ")
    assert second.startswith("line 4: unknown-type: ")
    assert crdtdb("get", "shop/counter/k").out == "2\n"
    (summary,) = crdtdb("import", str(file), "--json").json
    assert (summary["failed"], [error["line"] for error in summary["errors"]]) == (2, [2, 4])


def test_wrong_lines_beyond_those_told_of_are_counted(crdtdb: Run, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("x\n" * 120)
    ran = crdtdb("import", str(file))
    assert ran.code == 1
    assert ran.err.endswith("(20 more wrong lines)\n")


def test_repeated_under_its_key_an_import_counts_once(crdtdb: Run, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text(_line("counter", "k", 1) * 3)
    crdtdb("import", str(file), "--key", "i-1")
    again = crdtdb("import", str(file), "--key", "i-1")
    assert again.out == "3 lines: 0 written, 3 written before, 0 wrong\n"
    assert crdtdb("get", "shop/counter/k").out == "3\n"


def test_an_import_that_breaks_off_says_how_to_go_on(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text(_line("counter", "k", 1))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def leave() -> None:
            connection, _ = listening.accept()
            listening.close()
            with connection:
                connection.recv(1)

        leaving = Thread(target=leave)
        leaving.start()
        ran = run("import", str(file), "--url", url, "--key", "i-1")
        leaving.join()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("(to go on, repeat it with --key i-1)\nfailed: " + url)


def test_somebody_at_a_terminal_sees_how_far_it_is(
    crdtdb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lines"
    file.write_text(_line("counter", "k", 1))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert crdtdb("import", str(file)).out == "1 line: 1 written, 0 wrong\n"
    assert crdtdb("export", str(file)).out == "1 line\n"


def test_what_cannot_be_done_leaves_the_file_alone(crdtdb: Run, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("before")
    refused = crdtdb("export", str(file), "--bucket", "_system")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("bad-request: ")
    nobody = crdtdb("export", str(file), "--url", "http://127.0.0.1:1")
    assert nobody.err.startswith("unreachable: ")
    assert (file.read_text(), list(tmp_path.iterdir())) == ("before", [file])
    missing = crdtdb("import", str(tmp_path / "nowhere"))
    assert missing.code == 1
    assert "No such file" in missing.err
    assert "cannot use" in crdtdb("export", str(tmp_path / "no" / "where")).err


def test_a_dash_is_the_standard_output_or_input(
    crdtdb: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    crdtdb("update", "blog/counter/views", "increment", "by=5")
    (exported,) = crdtdb("export", "-").json
    assert exported["value"] == 5
    lines = json.dumps(exported).encode()
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(lines)))
    (imported,) = crdtdb("import", "-", "--json").json
    assert imported["written"] == {"counter": 1}
    assert crdtdb("get", "blog/counter/views").out == "10\n"


def test_programs_get_errors_as_documents(crdtdb: Run) -> None:
    ran = crdtdb("update", "blog/counter/views", "increment", "by=x", "--json")
    assert (ran.code, ran.out) == (1, "")
    document = json.loads(ran.err)
    assert document["code"] == "bad-request"
    assert document["errors"][0]["field"] == "by"
