"""The short form of the frames of `make hostile`; and that it would notice."""

from __future__ import annotations

import pytest

from crdtdb.errors import PeerError
from crdtdb.replication import machine
from crdtdb.replication.messages import Message, read_frame
from hostile.fuzzing import fuzz


def test_changed_frames_are_refused_whole(pytestconfig: pytest.Config) -> None:
    fuzzed = fuzz(600, pytestconfig.getoption("--seed") or 1)
    assert fuzzed.refused.total() + fuzzed.taken == 600
    # Changed at each depth: the frame, the message, who speaks, and the records.
    assert {"bad-frame", "bad-record", "forged-origin"} <= fuzzed.refused.keys()
    assert min(fuzzed.refused.total(), 3 * fuzzed.taken) > 200


def test_a_frame_that_is_no_refusal_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(frame: bytes) -> Message:
        try:
            return read_frame(frame)
        except PeerError as error:
            raise IndexError from error

    monkeypatch.setattr(machine, "read_frame", careless)
    with pytest.raises(IndexError):
        fuzz(100, 1)


def test_a_refusal_that_is_not_counted_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(dict[str, int]):
        def __getitem__(self, reason: str) -> int:
            return 0

        def __setitem__(self, reason: str, count: int) -> None:
            pass

    began = machine.Replication.__init__

    def forget(self: machine.Replication, *args: object, **kwargs: object) -> None:
        began(self, *args, **kwargs)  # type: ignore[arg-type]
        self._cluster.refusals = Forgetful()  # type: ignore[assignment]

    monkeypatch.setattr(machine.Replication, "__init__", forget)
    with pytest.raises(AssertionError):
        fuzz(100, 1)
