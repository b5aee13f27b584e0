"""`crdtdb compact`: give the space of what was deleted back to the file system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import print_json

__all__ = ["compact"]


def compact(
    *,
    data_dir: Annotated[
        Path, Parameter(env_var="CRDTDB_DATA_DIR", help="The replica's directory.")
    ],
    json: AsJson = False,
) -> None:
    """Write the data file of a stopped replica anew, without the space that nothing uses.

    Refused while a server has the directory open. It takes as much free space as the data need;
    interrupted at any moment, it leaves the directory as it was.

    For example:

        crdtdb compact --data-dir data
    """
    from crdtdb.store.lmdb.compacting import compact as rewrite

    compacted = rewrite(data_dir)
    if json:
        print_json(compacted._asdict())
    else:
        print(f"{compacted.before_bytes} bytes before, {compacted.after_bytes} after")
