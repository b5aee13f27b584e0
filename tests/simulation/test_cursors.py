"""How far a donor has been read: only what has taken effect counts, with the donor's claim."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest.mock import patch

import pytest

from crdtdb import replication
from crdtdb.replication import Send
from crdtdb.replication.messages import Page
from crdtdb.replication.peers import Peer
from crdtdb.replication.repair import Repair
from oracle.checks import Violation
from simulation.test_stories import Stage


@contextmanager
def read_before_the_claim() -> Iterator[None]:
    """A page counts as read when it is staged."""
    on_page = Repair.on_page

    def reading(self: Repair, peer: Peer, page: Page) -> list[Send]:
        pull = self.pull
        sends = on_page(self, peer, page)
        if pull is not None and pull is self.pull:
            self._cluster.cursors.now[pull.donor.incarnation] = pull.cursor
        return sends

    with patch.object(Repair, "on_page", reading):
        yield


@pytest.mark.parametrize("broken", [False, True])
def test_a_page_that_never_took_effect_is_asked_for_again(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its donor falls silent, and what was staged is let go for another donor.

    Who believed to have read it would skip it when the first donor is back, and take its claim over
    it all the same: acknowledged operations would be nowhere but there, for ever.
    """
    monkeypatch.setattr(replication.donor, "PAGE_RECORDS", 2)
    red = pytest.raises(Violation, match="value: shop/register/x 0 shows null")
    verdict: AbstractContextManager[object] = red if broken else nullcontext()
    with read_before_the_claim() if broken else nullcontext():
        stage = Stage("puller", "one", "two")
        for n in range(6):
            stage.write("one", "register", f"x {n}", op="set", value=n)
        stage.write("two", "register", "y", op="set", value=1)
        stage.lose("puller", "one", "two")
        while not stage.deliver("puller", "one", until="Page"):
            stage.pass_time("puller", "one")
        stage.lose("puller", "one", "two")
        puller = stage.machines["puller"]
        puller._do(lambda: puller.replication.unreachable("one"))
        stage.pull("puller", "two")
        assert puller.seen.includes(stage.machines["two"].seen)
        with verdict:
            stage.pull("puller", "one")
            stage.look_at_all("puller")
    assert puller.seen.includes(stage.machines["one"].seen)
