"""`get`, `put`, `update`, `delete`, `ls` and `explain` against a live replica."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import Run


def test_values_come_as_json_text(crdtdb: Run) -> None:
    assert crdtdb("update", "shop/counter/views", "increment", "by=5").out == "5\n"
    assert crdtdb("get", "shop/counter/views").out == "5\n"
    assert crdtdb("put", "shop/register/title", "Summer sale").out == '"Summer sale"\n'
    assert crdtdb("put", "shop/register/title", '{"a": "ü"}').out == '{"a": "ü"}\n'
    assert crdtdb("put", "shop/register/title", "-5").out == "-5\n"
    assert crdtdb("update", "shop/flag/open", "enable").out == "true\n"
    assert crdtdb("put", "shop/max/price", "7").out == "7\n"
    assert crdtdb("put", "shop/max/price", "6").out == "7\n"
    assert crdtdb("update", "shop/bcounter/stock", "create", "max=10").out == "0\n"
    assert crdtdb("update", "shop/bcounter/stock", "increment", "by=4").out == "4\n"
    assert crdtdb("update", "shop/hll/visitors", "add", 'values:=["ann", "bo", "ann"]').out == "2\n"


def test_members_come_one_a_line(crdtdb: Run) -> None:
    assert crdtdb("update", "shop/set/cart", "add", "value=pear").out == "1 member\n"
    added = crdtdb("update", "shop/set/cart", "add", 'values:=["apple", 5]', "--json")
    assert added.json == [{"size": 3, "changed": True}]
    assert crdtdb("get", "shop/set/cart").out == '5\n"apple"\n"pear"\n'
    crdtdb("update", "shop/rwset/banned", "remove", "value=ann")
    assert crdtdb("update", "shop/rwset/banned", "add", "value=bo").out == "1 member\n"
    assert crdtdb("get", "shop/rwset/banned").out == '"bo"\n'


def test_sizes_are_of_what_a_type_consists_of(crdtdb: Run) -> None:
    assert crdtdb("update", "shop/text/note", "insert", "text=hi").out == "2 characters\n"
    assert crdtdb("update", "shop/list/steps", "insert", "value=wash").out == "1 element\n"
    do = '{"type": "counter", "op": "increment"}'
    assert crdtdb("update", "shop/map/m", "update", 'field=["n"]', f"do={do}").out == "1 field\n"


def test_scores_come_in_any_order(crdtdb: Run) -> None:
    at = "game/zset/scores"
    crdtdb("update", at, "add", "member=ann", "score=1.5")
    assert crdtdb("update", at, "increment", "member=bo", "by=1e0").out == "2 members\n"
    ann, bo = '{"member": "ann", "score": 1.5}', '{"member": "bo", "score": 1}'
    assert crdtdb("get", at).json == [json.loads(ann), json.loads(bo)]
    ranked = crdtdb("get", at, "--order", "rank", "--reverse", "--limit", "1")
    assert ranked.json == [{"member": "ann", "score": 1.5, "rank": 1}]
    assert crdtdb("get", at, "--order", "size").code == 2


def test_a_map_is_shown_nested_by_field_and_explained(crdtdb: Run) -> None:
    at = "shop/map/cart"
    do = '{"type": "counter", "op": "increment", "by": 3}'
    assert crdtdb("update", at, "update", 'field=["items", "apple"]', f"do={do}").code == 0
    tags = '{"type": "set", "op": "add", "values": ["b", "a"]}'
    crdtdb("update", at, "update", 'field=["tags"]', f"do={tags}")
    assert crdtdb("get", at).json == [{"items": {"apple": 3}, "tags": ["a", "b"]}]
    leaf = {"field": ["items", "apple"], "type": "counter", "value": 3}
    assert crdtdb("get", at, "--prefix", "items").json == [leaf]
    assert crdtdb("get", at, "--prefix", '["items", "pear"]').out == ""
    explained = crdtdb("explain", at, "--field", '["tags"]').out
    assert '["tags"] "a"' in explained
    assert "apple" not in explained


def test_what_does_not_exist_has_a_value_and_a_note(crdtdb: Run) -> None:
    crdtdb("update", "shop/set/views", "add", "value=x")
    got = crdtdb("get", "shop/counter/views")
    assert (got.code, got.out) == (0, "0\n")
    assert got.err == "(does not exist; the key exists as set)\n"
    assert crdtdb("update", "shop/set/views", "remove", "value=y").err == "(nothing changed)\n"


def test_what_is_written_is_what_is_sent(crdtdb: Run) -> None:
    refused = crdtdb("update", "shop/counter/views", "increment", "by=1.0")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("bad-request: by: ")
    assert crdtdb("put", "shop/register/title", "1.0").out == "1\n"


def test_deleting_removes_what_is_there_or_what_a_read_showed(crdtdb: Run) -> None:
    crdtdb("update", "shop/set/cart", "add", "value=pear")
    (read,) = crdtdb("get", "shop/set/cart", "--json").json
    crdtdb("update", "shop/set/cart", "add", "value=apple")
    assert crdtdb("delete", "shop/set/cart", "--seen", read["seen"]).out == "1 member\n"
    assert crdtdb("get", "shop/set/cart").out == '"apple"\n'
    assert crdtdb("delete", "shop/set/cart", "--json").json == [{"size": 0, "changed": True}]
    assert crdtdb("delete", "shop/set/cart").err == "(nothing changed)\n"
    assert crdtdb("delete", "shop/set/cart", "--seen", "x").err.startswith("bad-token: ")


def test_explaining_names_what_wins_and_who_wrote_it(crdtdb: Run) -> None:
    crdtdb("put", "shop/register/title", "Sale")
    explained = crdtdb("explain", "shop/register/title")
    part, state, held, writer, time, dot = explained.out.rstrip("\n").split("\t")
    assert (part, state, held, writer) == ("own", "wins", '"Sale"', "eu-1")
    assert time[:4].isdecimal()
    assert explained.err == f"(seen up to eu-1:{dot.partition(':')[2]})\n"
    (document,) = crdtdb("explain", "shop/register/title", "--json").json
    assert document["records"][0]["entries"][0]["dot"] == dot
    crdtdb("update", "shop/set/cart", "add", 'values:=["pear", 1]')
    assert crdtdb("explain", "shop/set/cart", "--member", "pear").out.startswith('"pear"\twins\t')
    crdtdb("delete", "shop/set/cart")
    assert crdtdb("explain", "shop/set/cart", "--member", "1").out.startswith("1\tcut\t")
    assert "(nothing is in force)" in crdtdb("explain", "shop/set/never").err


def test_explaining_a_bounded_counter_says_who_holds_which_rights(crdtdb: Run) -> None:
    crdtdb("update", "shop/bcounter/stock", "create", "max=10")
    crdtdb("update", "shop/bcounter/stock", "increment", "by=4")
    explained = crdtdb("explain", "shop/bcounter/stock")
    assert explained.out.splitlines()[-1] == "eu-1\t4\t6"


def test_pages(crdtdb: Run) -> None:
    crdtdb("update", "shop/set/cart", "add", "values:=[1, 2, 3]")
    first = crdtdb("get", "shop/set/cart", "--limit", "2")
    assert first.out == "1\n2\n"
    assert first.err.startswith("(2 of 3 members; go on with --after ")
    after = first.err.split()[-1].rstrip(")")
    assert crdtdb("get", "shop/set/cart", "--after", after).out == "3\n"


def test_keys_are_taken_as_they_are(crdtdb: Run) -> None:
    for key in ("a/b", "a%2Fb", "a?b#c", "--x", "ü"):
        assert crdtdb("update", f"shop/counter/{key}", "increment").out == "1\n"
    assert crdtdb("ls", "shop/counter/a").out == "a%2Fb\t1\na/b\t1\na?b#c\t1\n"


def test_a_key_cannot_give_orders_to_the_terminal(crdtdb: Run) -> None:
    crdtdb("update", "shop/register/\x1b[2J", "set", 'value="\\u009b2J"')
    assert crdtdb("ls", "shop/register").out == '"\\u001b[2J"\t"\\u009b2J"\n'


def test_listing_goes_from_buckets_to_objects(crdtdb: Run) -> None:
    crdtdb("put", "shop/register/title", "Sale")
    crdtdb("update", "shop/set/cart:42", "add", "value=pear")
    crdtdb("update", "blog/counter/views", "increment")
    assert crdtdb("ls").out == "blog\nshop\n"
    assert crdtdb("ls", "--json").json == [{"bucket": "blog"}, {"bucket": "shop"}]
    assert crdtdb("ls", "shop").out == "register\nset\n"
    assert crdtdb("ls", "shop", "--json").json[0] == {"bucket": "shop", "type": "register"}
    assert crdtdb("ls", "shop/set/cart:").out == 'cart:42\t["pear"]\n'
    (listed,) = crdtdb("ls", "shop/set", "--json").json
    (got,) = crdtdb("get", "shop/set/cart:42", "--json").json
    assert listed.pop("seen").startswith(got.pop("seen")[:8])
    assert (
        listed
        == got
        == {
            "bucket": "shop",
            "type": "set",
            "key": "cart:42",
            "value": ["pear"],
            "exists": True,
            "size": 1,
        }
    )
    assert crdtdb("ls", "nothing").out == ""


def test_somebody_at_a_terminal_gets_a_table(crdtdb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    crdtdb("put", "shop/register/title", "x" * 100)
    crdtdb("update", "shop/set/cart", "add", "value=pear")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table = crdtdb("ls", "shop/register").out
    assert "key" in table
    assert "x…" in table
    assert "members" in crdtdb("ls", "shop/set").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["get"],
        ["get", "shop/counter"],
        ["get", "a/b/c", "--limit", "many"],
        ["get", "a/b/c", "--nonsense"],
        ["get", "a/b/c", "--url", "eu:7460"],
        ["put", "a/b/c"],
        ["put", "a/b/c", "@nowhere"],
        ["update", "a/b/c"],
        ["update", "a/b/c", "add", "x"],
        ["update", "a/b/c", "add", "x:=y"],
        ["ls", "a//b"],
        ["status", "extra"],
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("wrong usage: ")
    assert ran.err.count("\n") == 1
    ran = run(*arguments, "--json")
    assert (ran.code, ran.out) == (2, "")
    assert json.loads(ran.err)["code"] == "wrong-usage"


def test_a_refusal_is_one_readable_line_with_its_hints(crdtdb: Run) -> None:
    ran = crdtdb("update", "shop/counter/views", "increment", "by=0")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "bad-request: by: Expected `int` >= 1\n"
    ran = crdtdb("put", "shop/counter/views", "5")
    assert ran.err == (
        "invalid-operation: a counter has no operation 'set'; "
        "it has increment, decrement, reset, delete, expire, persist\n  op: unknown operation\n"
    )
    ran = crdtdb("get", f"shop/counter/{'k' * 1_025}")
    assert ran.err.endswith("  key: too many bytes of UTF-8 (limit: 1024)\n")
    assert crdtdb("get", "shop/counter/views", "--limit", "5").code == 1


def test_without_a_server_the_shell_says_how_to_start_one(run: Run) -> None:
    ran = run("get", "shop/counter/views", "--url", "http://127.0.0.1:1")
    assert ran.code == 1
    assert ran.err.startswith("unreachable: no replica answers at http://127.0.0.1:1 (Connection ")
    assert "crdtdb serve --data-dir data --listen 127.0.0.1:1" in ran.err


def test_status_shows_the_members(crdtdb: Run, url: str) -> None:
    assert (
        crdtdb("status").out == f"eu-1, cluster crdtdb: serving\neu-1\t\t{url}\tthis one\t\t\t\t\n"
    )
    (document,) = crdtdb("status", "--json").json
    assert document["self"]["replica"] == "eu-1"


def test_completion_knows_the_commands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ran = run("--install-completion", "--shell", "bash", "--output", str(tmp_path / "crdtdb"))
    assert ran.code == 0
    assert "watch" in (tmp_path / "crdtdb").read_text()


def test_help_has_examples(run: Run) -> None:
    commands = "get put update delete ls watch explain conflicts export import serve demo"
    for command in commands.split():
        ran = run(command, "--help")
        assert ran.code == 0
        assert f"crdtdb {command}" in ran.out.split("For example:")[1]


def test_help_says_nothing_of_the_inside(run: Run) -> None:
    """It offered `left-out`, which stands for no member at all, as the one choice there is."""
    assert "left-out" not in run("explain", "--help").out
    assert "CRDTDB_JSON" not in run("config", "show", "--help").out, "there is no such variable"


def test_a_reader_that_leaves_early_is_no_error(url: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    ran = subprocess.run(
        [sys.executable, "-m", "crdtdb_server", "get", "shop/counter/views", "--url", url],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    assert (ran.returncode, "Traceback" in ran.stderr) == (1, False)


def test_commands_for_objects_do_not_load_the_server() -> None:
    code = (
        "import sys; from crdtdb_server.shell import main\n"
        "try: main(['get', 'a/b/c', '--url', 'http://127.0.0.1:1'])\n"
        "finally: print([m for m in ('aiohttp', 'asyncio', 'rich', 'lmdb') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
