"""The story: one shop, three regions, one cut, every type of object.

What happens is data (`BEFORE`, `DURING`, `AFTER`), so that it can be read at a glance and told
differently without touching how it is told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rich.text import Text

from crdtdb.address import ObjectName
from crdtdb.errors import CrdtdbError
from crdtdb_server.demo.loop import Acknowledged, Address, Chapter, expected
from crdtdb_server.demo.regions import Region, Regions, running
from crdtdb_server.demo.screen import Screen, shown

__all__ = ["AFTER", "BEFORE", "DURING", "ISOLATED", "REGIONS", "Line", "tell"]

REGIONS: Final = ("eu", "us", "ap")
ISOLATED: Final = "ap"
_BUCKET: Final = "shop"


class Line(NamedTuple):
    """One write of the story."""

    region: str
    type: str
    key: str
    plain: dict[str, Any]


def _line(region: str, address: str, op: str, **fields: Any) -> Line:
    type_name, _, key = address.partition("/")
    return Line(region, type_name, key, {"op": op, **fields})


BEFORE: Final = (
    _line("eu", "counter/views", "increment", by=10),
    _line("us", "counter/views", "increment", by=20),
    _line("ap", "counter/views", "increment", by=5),
    _line("eu", "gcounter/orders", "increment", by=3),
    _line("us", "gcounter/orders", "increment", by=1),
    _line("us", "opcounter/stock", "increment", by=100),
    _line("eu", "register/title", "set", value="Spring sale"),
    _line("us", "mvregister/price", "set", value="9.99"),
    _line("eu", "flag/open", "enable"),
    _line("ap", "dwflag/checkout", "enable"),
    _line("eu", "set/cart", "add", values=["apple", "pear"]),
    _line("us", "gset/visitors", "add", values=["ann"]),
    _line("ap", "gset/visitors", "add", values=["bo"]),
)

DURING: Final = (
    _line("ap", "counter/views", "increment", by=7),
    _line("eu", "counter/views", "increment", by=8),
    _line("us", "counter/views", "decrement", by=2),
    _line("ap", "gcounter/orders", "increment", by=2),
    _line("eu", "gcounter/orders", "increment", by=4),
    _line("ap", "opcounter/stock", "decrement", by=5),
    _line("us", "opcounter/stock", "reset"),
    _line("us", "opcounter/stock", "increment", by=50),
    _line("ap", "register/title", "set", value="Harvest sale"),
    _line("eu", "register/title", "set", value="Summer sale"),
    _line("ap", "mvregister/price", "set", value="7.99"),
    _line("us", "mvregister/price", "set", value="8.49"),
    _line("ap", "flag/open", "enable"),
    _line("us", "flag/open", "disable"),
    _line("ap", "dwflag/checkout", "enable"),
    _line("us", "dwflag/checkout", "disable"),
    _line("ap", "set/cart", "add", values=["apple", "plum"]),
    _line("us", "set/cart", "remove", values=["apple", "pear"]),
    _line("ap", "gset/visitors", "add", values=["cy"]),
    _line("eu", "gset/visitors", "add", values=["dee"]),
)

AFTER: Final = (
    _line("us", "mvregister/price", "set", value="7.99"),
    _line("ap", "dwflag/checkout", "enable"),
    _line("eu", "counter/views", "increment", by=1),
)

#: What wins when both sides wrote, and why the value is what it is.
_RULES: Final = {
    "counter": "every step counts, once",
    "gcounter": "every step counts, once",
    "opcounter": "a reset takes only the steps it saw",
    "register": "the later write",
    "mvregister": "both, until somebody settles it",
    "flag": "enable beats disable",
    "dwflag": "disable beats enable",
    "set": "add beats remove",
    "gset": "what was added stays",
}


def tell(screen: Screen) -> bool:
    """Tell the story; True if it ended as it must."""
    screen.heading("1  Three regions, three processes")
    began = time.monotonic()
    with running(REGIONS) as regions:
        try:
            return _Telling(screen, regions, time.monotonic() - began).tell()
        except CrdtdbError as error:
            screen.verdict(str(error), good=False)
            screen.say(regions.log_tails(), "dim")
            return False


class _Telling:
    """One telling of the story, and what was acknowledged in it."""

    def __init__(self, screen: Screen, regions: Regions, started_s: float) -> None:
        self._screen = screen
        self._regions = regions
        self._started_s = started_s
        self._history: list[Acknowledged] = []
        self._refused: list[str] = []
        self._names: list[ObjectName] = []

    def tell(self) -> bool:
        self._introduce()
        self._write_everywhere()
        self._write_on_both_sides()
        good = self._heal()
        good = self._go_on() and good
        good = good and not self._refused
        for refusal in self._refused:
            self._screen.say(refusal, "red")
        writes = f"{len(self._history)} writes acknowledged, {len(self._refused)} refused"
        self._screen.verdict(
            f"{writes}. Every region shows what a plain loop over them says."
            if good
            else f"{writes}. The regions do not show what a plain loop over them says.",
            good=good,
        )
        return good

    # -- the chapters ---------------------------------------------------------------------------

    def _introduce(self) -> None:
        self._screen.say(
            "Each keeps all the data on its own disk (LMDB) and knows where the others are. "
            f"Ready in {self._started_s:.1f} s."
        )
        self._screen.table(
            ("region", "server", "process", "data"),
            (
                (region.name, region.url, str(region.process.pid), str(region.data_dir))
                for region in self._regions.all
            ),
        )

    def _write_everywhere(self) -> None:
        self._screen.heading("2  Write to all three")
        self._write(Chapter.BEFORE, BEFORE)
        digest, waited_ms = self._regions.meet()
        self._screen.say(
            f"{len(BEFORE)} writes to {digest.objects} objects. {waited_ms:.0f} ms later all three "
            f"regions show the same (digest {_short(digest.digest)})."
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
                    f"{name.type}/{name.key}",
                    _done(name, DURING, [ISOLATED]),
                    Text(shown(here[name.type, name.key]), "yellow"),
                    _done(name, DURING, majority),
                    Text(shown(there[name.type, name.key]), "magenta"),
                )
                for name in self._names
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
        return self._compare(self._names)

    def _go_on(self) -> bool:
        self._screen.heading("5  Go on")
        self._write(Chapter.AFTER, AFTER)
        digest, waited_ms = self._regions.meet()
        self._screen.say(
            "A write that saw both sides settles what they left open. "
            f"{waited_ms:.0f} ms later all are equal ({_short(digest.digest)})."
        )
        changed = {(line.type, line.key) for line in AFTER}
        return self._compare([name for name in self._names if (name.type, name.key) in changed])

    # -- writing and comparing ------------------------------------------------------------------

    def _write(self, chapter: Chapter, lines: Sequence[Line]) -> None:
        for region, type_name, key, plain in lines:
            name = ObjectName(_BUCKET, type_name, key)
            if name not in self._names:
                self._names.append(name)
            began_ms = _now_ms()
            try:
                self._regions[region].db.update(name, [plain])
            except CrdtdbError as error:
                self._refused.append(f"{region} refused {plain} on {type_name}/{key}: {error}")
                continue
            ended_ms = _now_ms()
            self._history.append(
                Acknowledged(chapter, region, (type_name, key), plain, began_ms, ended_ms)
            )
            # So that the clock says, to the millisecond that replicas read, which write is later.
            while _now_ms() == ended_ms:
                time.sleep(0)

    def _values(self, region: Region) -> dict[Address, Any]:
        reads = region.db.read_together(self._names)
        return {
            (name.type, name.key): read.value for name, read in zip(self._names, reads, strict=True)
        }

    def _compare(self, interesting: Sequence[ObjectName]) -> bool:
        """Do all regions say what the plain loop says, of every object? Shows the interesting
        ones, and those of which they do not."""
        loop = expected(self._history, isolated=ISOLATED)
        values = [self._values(region) for region in self._regions.all]
        rows: list[tuple[str | Text, ...]] = []
        good = True
        for name in self._names:
            address = (name.type, name.key)
            equal = all(value[address] == loop[address] for value in values)
            good = good and equal
            if equal and name not in interesting:
                continue
            found = [shown(value[address]) for value in values]
            style = "green" if equal else "bold red"
            rows.append(
                (
                    f"{name.type}/{name.key}",
                    Text(found[0] if equal else " / ".join(found), style),
                    shown(loop[address]),
                    Text("✔" if equal else "✘", style),
                    _RULES[name.type],
                )
            )
        columns = ("object", ", ".join(REGIONS), "plain loop", "", "what wins")
        self._screen.table(columns, rows, last_dim=True)
        return good


def _now_ms() -> int:
    """The clock that the replicas read too."""
    return time.time_ns() // 1_000_000


def _short(digest: int) -> str:
    return f"{digest:032x}"[:8]


def _done(name: ObjectName, lines: Sequence[Line], regions: Sequence[str]) -> str:
    """What these regions did to an object, in a few characters."""
    return ", ".join(
        _brief(line.plain)
        for line in lines
        if line.region in regions and (line.type, line.key) == (name.type, name.key)
    )


def _brief(plain: dict[str, Any]) -> str:
    match plain:
        case {"op": "increment", "by": by}:
            return f"+{by}"
        case {"op": "decrement", "by": by}:
            return f"−{by}"
        case {"op": "set", "value": value}:
            return f"“{shown(value)}”"
        case {"op": "add", "values": values}:
            return f"+ {shown(values)}"
        case {"op": "remove", "values": values}:
            return f"− {shown(values)}"
        case {"op": op}:
            return str(op)
    raise AssertionError(plain)
