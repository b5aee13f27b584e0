"""The story: the plot, told to three live regions and to whoever is watching."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final

from rich.text import Text

from crdtdb.address import ObjectName
from crdtdb.errors import CrdtdbError
from crdtdb_server.demo.loop import Acknowledged, Address, Chapter, expected
from crdtdb_server.demo.plot import (
    AFTER,
    BEFORE,
    DURING,
    ISOLATED,
    REGIONS,
    RULES,
    Line,
    in_brief,
)
from crdtdb_server.demo.regions import Region, Regions, already_running, running
from crdtdb_server.demo.screen import Screen, shown

__all__ = ["tell", "tell_at"]

#: Where nothing else is.
_BUCKET: Final = "shop"


def tell(screen: Screen) -> bool:
    """Tell the story to replicas of its own; True if it ended as it must."""
    screen.heading("1  Three regions, three processes")
    return _tell(screen, running(REGIONS), _BUCKET)


def tell_at(screen: Screen, urls: Sequence[str]) -> bool:
    """Tell it to running replicas in those regions, in a bucket of its own; True if it ended well.

    Their clocks must agree to the millisecond, as on one machine: of two concurrent writes to a
    register the plain loop takes the one that came later *here*.
    """
    screen.heading("1  Three regions")
    bucket = f"story-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return _tell(screen, already_running(REGIONS, urls), bucket)


def _tell(screen: Screen, opened: AbstractContextManager[Regions], bucket: str) -> bool:
    began = time.monotonic()
    with opened as regions:
        try:
            return _Telling(screen, regions, bucket, time.monotonic() - began).tell()
        except CrdtdbError as error:
            screen.verdict(str(error), good=False)
            screen.say(regions.log_tails(), "dim")
            return False


class _Telling:
    """One telling of the story, and what was acknowledged in it."""

    def __init__(self, screen: Screen, regions: Regions, bucket: str, started_s: float) -> None:
        self._screen = screen
        self._regions = regions
        self._bucket = bucket
        self._started_s = started_s
        self._history: list[Acknowledged] = []
        self._refused: list[str] = []
        self._addresses: list[Address] = []

    def tell(self) -> bool:
        self._introduce()
        self._write_everywhere()
        self._write_on_both_sides()
        healed = self._heal()
        good = self._go_on() and healed
        for refusal in self._refused:
            self._screen.say(refusal, "red")
        writes = f"{len(self._history)} writes acknowledged, {len(self._refused)} refused."
        if not good:
            self._screen.verdict(f"{writes} The plain loop over them says otherwise.", good=False)
        elif self._refused:
            self._screen.verdict(f"{writes} A live replica must not refuse any.", good=False)
        else:
            self._screen.verdict(
                f"{writes} Every region shows what a plain loop over them says.", good=True
            )
        return good and not self._refused

    # -- the chapters ---------------------------------------------------------------------------

    def _introduce(self) -> None:
        self._screen.say(
            "Each keeps all the data on its own disk (LMDB) and knows where the others are. "
            f"Ready in {self._started_s:.1f} s."
        )
        self._screen.table(
            ("region", "replica", "server", "runs as"),
            (
                (region.name, region.replica, region.url, _runs_as(region))
                for region in self._regions.all
            ),
        )

    def _write_everywhere(self) -> None:
        self._screen.heading("2  Write to all three")
        self._write(Chapter.BEFORE, BEFORE)
        digest, waited_ms = self._regions.meet()
        self._screen.say(
            f"{len(BEFORE)} writes to {len(self._addresses)} objects in the bucket {self._bucket}. "
            f"{waited_ms:.0f} ms later all three regions show the same "
            f"(digest {_short(digest.digest)})."
        )

    def _write_on_both_sides(self) -> None:
        screen, regions = self._screen, self._regions
        screen.heading(f"3  Cut {ISOLATED} off, and write on both sides")
        regions.cut(ISOLATED)
        self._write(Chapter.CUT, DURING)
        majority = [region.name for region in regions.others(ISOLATED)]
        together, _ = regions.meet(majority)
        alone = regions[ISOLATED].db.digest()
        screen.say(
            "No message crosses the cut, and nobody waits for anybody: "
            f"{len(DURING)} writes, {len(self._refused)} refused. Two truths, side by side:"
        )
        here, there = self._values(regions[ISOLATED]), self._values(regions[majority[0]])
        both = " and ".join(majority)
        screen.table(
            ("object", f"{ISOLATED} did", f"{ISOLATED} shows", f"{both} did", f"{both} show"),
            (
                (
                    "/".join(address),
                    in_brief(DURING, address, [ISOLATED]),
                    Text(shown(here[address]), "yellow"),
                    in_brief(DURING, address, majority),
                    Text(shown(there[address]), "magenta"),
                )
                for address in self._addresses
            ),
        )
        screen.say(
            f"\nDigests: {ISOLATED} {_short(alone.digest)}, {both} {_short(together.digest)}."
        )

    def _heal(self) -> bool:
        self._screen.heading("4  Heal the cut")
        began = time.monotonic()
        self._regions.heal(ISOLATED)
        digest, _ = self._regions.meet()
        healed_ms = (time.monotonic() - began) * 1000
        self._screen.say(
            f"{healed_ms:.0f} ms later all three digests are equal ({_short(digest.digest)}). "
            "One answer everywhere: the one that a plain loop over the acknowledged writes gives."
        )
        return self._compare(self._addresses)

    def _go_on(self) -> bool:
        self._screen.heading("5  Go on")
        self._write(Chapter.AFTER, AFTER)
        digest, waited_ms = self._regions.meet()
        self._screen.say(
            "A write that saw both sides settles what they left open. "
            f"{waited_ms:.0f} ms later all are equal ({_short(digest.digest)})."
        )
        return self._compare([line.address for line in AFTER])

    # -- writing and comparing ------------------------------------------------------------------

    def _write(self, chapter: Chapter, lines: Sequence[Line]) -> None:
        for region, address, plain in lines:
            if address not in self._addresses:
                self._addresses.append(address)
            began_ms = _now_ms()
            try:
                self._regions[region].db.update(ObjectName(self._bucket, *address), [plain])
            except CrdtdbError as error:
                self._refused.append(f"{region} refused {plain} on {'/'.join(address)}: {error}")
                continue
            ended_ms = _now_ms()
            self._history.append(Acknowledged(chapter, region, address, plain, began_ms, ended_ms))
            # So that the clock says, to the millisecond that replicas read, which write is later.
            while _now_ms() == ended_ms:
                time.sleep(0)

    def _values(self, region: Region) -> dict[Address, Any]:
        names = [ObjectName(self._bucket, *address) for address in self._addresses]
        reads = region.db.read_together(names)
        return {address: read.value for address, read in zip(self._addresses, reads, strict=True)}

    def _compare(self, interesting: Sequence[Address]) -> bool:
        """Do all regions say what the plain loop says, of every object? Shows the interesting
        ones, and those of which they do not."""
        loop = expected(self._history, isolated=ISOLATED)
        values = [self._values(region) for region in self._regions.all]
        rows: list[tuple[str | Text, ...]] = []
        good = True
        for address in self._addresses:
            equal = all(value[address] == loop[address] for value in values)
            good = good and equal
            if equal and address not in interesting:
                continue
            found = [shown(value[address]) for value in values]
            style = "green" if equal else "bold red"
            rows.append(
                (
                    "/".join(address),
                    Text(found[0] if equal else " / ".join(found), style),
                    shown(loop[address]),
                    Text("✔" if equal else "✘", style),
                    RULES[address[0]],
                )
            )
        columns = ("object", ", ".join(REGIONS), "plain loop", "", "what wins")
        self._screen.table(columns, rows, last_dim=True)
        return good


def _runs_as(region: Region) -> str:
    started = region.started
    if started is None:
        return "it was running"
    return f"process {started.process.pid}, data in {started.data_dir}"


def _now_ms() -> int:
    """The clock that the replicas read too."""
    return time.time_ns() // 1_000_000


def _short(digest: int) -> str:
    return f"{digest:032x}"[:8]
