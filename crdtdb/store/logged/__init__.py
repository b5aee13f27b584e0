"""The store for production: a log in front of LMDB, so that a commit costs one write and one sync.

- `store`: commits, folding, what happens when there is no space.
- `log`: the two files, and what a crash may leave in them.
- `holes`: where deletions have left tables half empty, so that they are packed.
- `snapshot`: one state out of layers and tables.

The layers are `crdtdb.store.layer`, the tables `crdtdb.store.lmdb`.
"""

from crdtdb.store.logged.store import LoggedStore, Pace

__all__ = ["LoggedStore", "Pace"]
