"""Disks that went back while what they held was on its way: what of it nobody may give out again."""

from __future__ import annotations

from contextlib import nullcontext
from unittest.mock import patch

import pytest

from crdtdb import replication
from crdtdb.replication.cluster import Cluster
from oracle.checks import Violation
from simulation.test_stories import Stage


@pytest.mark.parametrize("broken", [False, True])
def test_who_was_put_back_while_a_pull_is_joined(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the puller knows of the latest dots, and has not seen them: the donor is gone.

    It joins them in parts, and would not be kept from that by anything that is written meanwhile.
    So whoever is greeted says what it has fetched, too, from whomever (`Cluster.fetched`).
    """
    monkeypatch.setattr(replication.repair, "ONE_COMMIT_RECORDS", 4)
    monkeypatch.setattr(replication.staging, "PART_RECORDS", 2)
    names = ("writer", "donor", "puller")
    stage = Stage(*names)
    writer, puller = stage.machines["writer"], stage.machines["puller"]
    writer.disk.back_up()
    for n in range(9):
        stage.write("writer", "register", f"x {n}", op="set", value=n)
    stage.deliver("writer", "donor")
    stage.lose(*names)
    while not puller.replication.is_partial:
        stage.pass_time("puller", "donor")
        stage.deliver("puller", "donor")
    stage.lose(*names)
    incarnation = writer.replication.incarnation
    forgets = patch.object(Cluster, "fetched", lambda self: self.seen)
    wrong = pytest.raises(Violation, match="value: shop/register/")
    with forgets if broken else nullcontext(), wrong if broken else nullcontext():
        stage.lose_disk("donor")
        stage.restart("writer", rolled_back=True)
        for _ in range(60):
            stage.pass_time("writer", "donor")
            stage.deliver(*names)
        assert puller.replication.is_partial
        for n in range(9):
            stage.write("writer", "register", f"y {n}", op="set", value=n)
        assert (writer.replication.incarnation == incarnation) is broken
        for _ in range(60):
            stage.pass_time(*names)
            stage.deliver(*names)
        for name in names:
            stage.look_at_all(name)
            assert stage.machines[name].seen == writer.seen
