"""A backup that is restored while the others go on: as real processes, by the commands.

Marks of deletion that have been reclaimed meanwhile take days of clocks: the scenario
`restore-into-a-live-cluster` has them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from processes import DEADLINE_S, Replica, cluster, equal


def _crdtdb(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "crdtdb_server", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _succeeds(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, out + err


def _cluster(replica: Replica) -> Any:
    return replica.http.get("/v1/cluster").json()


def test_nothing_acknowledged_is_lost_and_nothing_deleted_comes_back(tmp_path: Path) -> None:
    with cluster(tmp_path, 3) as replicas:
        eu, us, ap = replicas
        assert ap.post("set/cart", {"op": "add", "values": ["milk", "bread"]}).status_code == 200
        assert ap.post("counter/sold", {"op": "increment", "by": 5}).status_code == 200
        assert eu.post("register/note", {"op": "set", "value": "x" * 200_000}).status_code == 200
        equal(replicas)

        # Writes go on while the backup is taken, slowly.
        backup = _crdtdb("backup", str(tmp_path / "backup"), "--url", ap.url, "--rate", "400k")
        during = 0
        while backup.poll() is None:
            assert ap.post("counter/sold", {"op": "increment"}).status_code == 200
            assert ap.post("set/log", {"op": "add", "value": during}).status_code == 200
            during += 1
        _succeeds(backup)
        assert during

        # What comes after it: acknowledged by the one that will be lost, and deleted elsewhere.
        assert ap.post("counter/sold", {"op": "increment", "by": 7}).status_code == 200
        assert ap.post("set/cart", {"op": "add", "value": "salt"}).status_code == 200
        assert us.post("set/cart", {"op": "remove", "value": "milk"}).status_code == 200
        assert us.http.delete("/v1/buckets/t/register/note").status_code == 200
        equal(replicas)
        former = _cluster(ap)["self"]["incarnation"]

        ap.kill()
        shutil.rmtree(ap.data_dir)
        _succeeds(_crdtdb("restore", str(tmp_path / "backup"), "--data-dir", str(ap.data_dir)))
        assert eu.post("counter/sold", {"op": "increment", "by": 100}).status_code == 200
        ap.start().until_ready()
        assert ap.post("counter/sold", {"op": "increment", "by": 1_000}).status_code == 200
        equal(replicas)
        assert _cluster(ap)["self"]["incarnation"] != former
        for replica in replicas:
            assert replica.value("set/cart") == ["bread", "salt"]
            assert replica.value("counter/sold") == 5 + during + 7 + 100 + 1_000
            assert replica.value("register/note") is None
            assert replica.value("set/log") == list(range(min(during, 1_000)))
