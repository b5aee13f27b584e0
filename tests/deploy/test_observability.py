"""What is shipped for operators: metric names that stay, rules and pictures that use no others."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from crdtdb_server.service import Service
from livecluster import LiveWire, eventually, live_cluster
from processes import DEADLINE_S

_ROOT: Final = Path(__file__).parents[2]
_RULES: Final = _ROOT / "deploy" / "alerts.yml"
_DASHBOARD: Final = _ROOT / "deploy" / "grafana-dashboard.json"
_CASES: Final = Path(__file__).with_name("alerts.test.yml")

#: Stable: who renames one breaks the dashboards of others, and says so in the changelog.
_NAMES: Final = re.findall(
    r"\w+",
    """
    crdtdb_certificate_expiry_timestamp_seconds crdtdb_clock_offset_seconds
    crdtdb_commit_duration_seconds crdtdb_commit_transactions crdtdb_damage_found_total
    crdtdb_damage_mended_total crdtdb_damaged_records crdtdb_failed_logins_total
    crdtdb_damage_accepted_total
    crdtdb_http_request_duration_seconds crdtdb_info crdtdb_members crdtdb_operations_total
    crdtdb_peer_contact_age_seconds crdtdb_peer_up crdtdb_pull_bytes crdtdb_pull_head
    crdtdb_pull_joined_records crdtdb_pull_place crdtdb_pull_records crdtdb_reclaim_waiting_bytes
    crdtdb_reclaim_waiting_records crdtdb_reclaimed_bytes_total crdtdb_reclaimed_records_total
    crdtdb_replication_failures_total crdtdb_replication_lag_seconds
    crdtdb_replication_missing_operations crdtdb_replication_refused_total
    crdtdb_replication_sent_bytes_total crdtdb_replication_unreported_operations
    crdtdb_scrub_progress_ratio crdtdb_scrub_rows_total crdtdb_scrub_walks_total
    crdtdb_stability_blocked_operations
    crdtdb_state crdtdb_store_entries crdtdb_store_file_bytes crdtdb_store_used_bytes
    crdtdb_unmet_peers
    """,
)
_LABELS: Final = {
    *("route", "method", "code", "type", "op", "table", "state", "reason", "peer", "incarnation"),
    *("version", "replica", "region", "cluster", "certificate", "chore", "le"),
}


def _series(service: Service) -> set[str]:
    """The names under which Prometheus finds the metrics, histograms by their own."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in service.metrics.registry.collect()
    }


async def _busy(eu: LiveWire, us: LiveWire) -> None:
    for key in ("a-secret-key", "another-secret"):
        path = f"/v1/buckets/secret-bucket/set/{key}"
        answer = await eu.request("POST", path, {"op": "add", "value": "secret-member"})
        assert answer.status == 200
    assert (await eu.request("GET", "/v1/buckets/secret-bucket/set/a-secret-key")).status == 200
    assert (await eu.request("GET", "/no/secret/route")).status == 404
    await eventually("level", lambda: us.service.seen == eu.service.seen)


async def test_the_names_are_those() -> None:
    async with live_cluster("eu-1", "us-1") as (eu, us):
        await _busy(eu, us)
        assert sorted(_series(eu.service)) == sorted(_NAMES)


async def test_no_label_tells_of_data() -> None:
    async with live_cluster("eu-1", "us-1") as (eu, us):
        await _busy(eu, us)
        text = (await us.request("GET", "/metrics")).body.decode()
        text += (await eu.request("GET", "/metrics")).body.decode()
    assert "secret" not in text
    labels = {
        label
        for line in text.splitlines()
        if not line.startswith("#")
        for label in re.findall(r'[{,](\w+)="', line)
    }
    assert labels <= _LABELS
    assert {"peer", "route", "le"} <= labels


async def test_what_is_said_of_a_peer() -> None:
    async with live_cluster("eu-1", "us-1") as (eu, us):
        await _busy(eu, us)

        def read(name: str, **labels: str) -> float | None:
            incarnation = f"{us.network.replication.incarnation:016x}"
            labels = labels or {"peer": "us-1", "incarnation": incarnation}
            return eu.service.metrics.registry.get_sample_value(name, labels)

        assert read("crdtdb_state", state="serving") == 1
        assert read("crdtdb_state", state="damaged") == 0
        await eventually("up", lambda: read("crdtdb_peer_up") == 1)
        eu.cut(us)
        us.cut(eu)
        await eventually("down", lambda: read("crdtdb_peer_up") == 0)
        before = read("crdtdb_replication_unreported_operations")
        path = "/v1/buckets/shop/counter/c"
        assert (await eu.request("POST", path, {"op": "increment"})).status == 200
        after = read("crdtdb_replication_unreported_operations")
        assert before is not None
        assert after is not None
        assert after > before
        assert (lag := read("crdtdb_replication_lag_seconds")) is not None
        assert lag > 0


async def test_the_reference_has_every_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(_ROOT / "docs"))
    import reference

    page = (await reference.reference_pages())["metrics"]
    assert re.findall(r"^\| `(crdtdb_\w+)` \|", page, re.MULTILINE) == sorted(_NAMES)


# -- rules and dashboard --------------------------------------------------------------------------


def _used(expression: str) -> set[str]:
    """The metrics of an expression; parts of a histogram by its name."""
    names = re.findall(r"\bcrdtdb_\w+", expression)
    return {name if name in _NAMES else re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def _shown() -> Iterator[str]:
    dashboard: Any = json.loads(_DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_rules_and_dashboard_use_metrics_that_exist() -> None:
    rules = re.findall(r"^ +expr: (.+)$", _RULES.read_text(), re.MULTILINE)
    assert len(rules) >= 10
    shown = list(_shown())
    assert len(shown) >= 15
    for expression in (*rules, *shown):
        assert _used(expression) <= {*_NAMES}, expression


def test_the_panels_do_not_overlap() -> None:
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool checks the rules: apt-get install prometheus")
    return path


def test_promtool_takes_the_rules(promtool: str, tmp_path: Path) -> None:
    shutil.copy(_RULES, tmp_path)
    shutil.copy(_CASES, tmp_path)
    for command in (["check", "rules", _RULES.name], ["test", "rules", _CASES.name]):
        done = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_dashboard(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{i}", "expr": expression.replace("$__rate_interval", "5m")}
        for i, expression in enumerate(_shown())
    ]
    file = tmp_path / "dashboard.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_promtool_takes_the_metrics(promtool: str) -> None:
    async with live_cluster("eu-1", "us-1") as (eu, us):
        await _busy(eu, us)
        text = (await eu.request("GET", "/metrics")).body
    check = await asyncio.create_subprocess_exec(
        *(promtool, "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    said = await check.communicate(text)
    assert check.returncode == 0, said
