"""Tables in one LMDB environment, durable at every commit. Replicas put a log in front (`logged`).

- `store`: commits, snapshots, growth, recovery after a failed disk.
- `directory`: who may open the data directory, and what format it has.
- `pages`: is the data file safe to hand to LMDB?
- `environment`: the open environment and its tables.
- `longkeys`: keys longer than LMDB's 511 bytes, in exact byte order.
- `packing`: neighbours written anew, so that their pages are full.
- `gate`: the map is exchanged only while no snapshot reads it.
"""

from crdtdb.store.lmdb.store import LmdbSnapshot, LmdbStore

__all__ = ["LmdbSnapshot", "LmdbStore"]
