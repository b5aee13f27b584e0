"""Opening: what a store says of its own replica, and what becomes of such rows when damaged.

Only the state cannot be told anew: it says which operations are this replica's own and what it has
seen, and whoever guessed that would lose writes, or issue dots twice. All else is either said once
more elsewhere, or can be put down as more cautious than it was: that costs a longer pull.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from crdtdb import address, codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.cuts import WideCuts, covered
from crdtdb.epochs import EPOCHS_KEY, Epochs
from crdtdb.errors import ADVICE, DamagedStore, NewerFormat, StorageFailed
from crdtdb.reclaimed import RECLAIMED_KEY, Reclaimed
from crdtdb.rows import WIDE_CUT_ROWS, pack_cut_row, read_cut_row, read_record
from crdtdb.state import STATE_KEY, State
from crdtdb.store.base import Snapshot, Table

__all__ = ["Opened", "open_rows"]

_T = TypeVar("_T")


class Opened(NamedTuple):
    """What the rows say."""

    #: None: nobody has written here yet.
    state: State | None
    epochs: Epochs
    reclaimed: Reclaimed
    wide: WideCuts
    #: META rows to write in the place of damaged ones.
    mended: dict[bytes, bytes | None]


def open_rows(snapshot: Snapshot) -> Opened:
    """Read them. O(wide cuts). Raises DamagedStore or NewerFormat."""
    try:
        return _read(snapshot)
    except codec.NewerVersion as error:
        raise NewerFormat(f"this data directory needs a newer crdtdb: {error}") from error
    except codec.FormatError as error:
        raise DamagedStore(f"the replica's own state is damaged ({error}); {ADVICE}") from error


def _read(snapshot: Snapshot) -> Opened:
    row = snapshot.get(Table.META, STATE_KEY)
    if row is None and next(snapshot.scan(Table.RECORDS), None) is not None:
        raise DamagedStore(f"there are records, and the replica's own state is missing; {ADVICE}")
    state = None if row is None else State.decode(row)
    seen, sequence = (NOTHING, 0) if state is None else (state.seen, state.sequence)
    mended: dict[bytes, bytes | None] = {}
    epochs = _sound(snapshot, EPOCHS_KEY, Epochs.decode, Epochs())
    if epochs is None:
        # Who remembers a place of this store's sequence reads it from the start.
        epochs = Epochs()
        mended[EPOCHS_KEY] = None
    reclaimed = _sound(snapshot, RECLAIMED_KEY, Reclaimed.decode, Reclaimed())
    if reclaimed is None:
        # Whatever was seen may have been let go: who has seen less pulls whole.
        reclaimed = Reclaimed(VersionVector(dict(seen.items())), sequence)
        mended[RECLAIMED_KEY] = reclaimed.encode()
    cuts: dict[bytes, VersionVector] = {}
    for key, row in snapshot.scan(Table.META, WIDE_CUT_ROWS, address.after(WIDE_CUT_ROWS)):
        prefix = key[len(WIDE_CUT_ROWS) :]
        try:
            cuts[prefix] = read_cut_row(row)
        except codec.NewerVersion:
            raise
        except codec.FormatError:
            vector = _cut_of(snapshot, prefix)
            if vector is not None:
                cuts[prefix] = vector
                mended[key] = pack_cut_row(vector)
    return Opened(state, epochs, reclaimed, WideCuts(cuts.items()), mended)


def _sound(snapshot: Snapshot, key: bytes, decode: Callable[[bytes], _T], missing: _T) -> _T | None:
    """What a row says; None if it is damaged. Raises codec.NewerVersion."""
    row = snapshot.get(Table.META, key)
    try:
        return missing if row is None else decode(row)
    except codec.NewerVersion:
        raise
    except codec.FormatError:
        return None


def _cut_of(snapshot: Snapshot, prefix: bytes) -> VersionVector | None:
    """What the record of a wide cut says, which its row repeats.

    None if the record is damaged, too: when a peer mends it, the cut is installed again. Until
    then every object that is there has it in its head.
    """
    try:
        return covered(read_record(snapshot, address.cut(prefix))[0].live)
    except StorageFailed:
        return None
