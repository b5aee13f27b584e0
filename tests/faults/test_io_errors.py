"""EIO at the nth call, by libfiu: what fails is refused, nothing of it is ever there, and the next
write finds a disk that works."""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from crdtdb_server.ports import free_ports
from faults.load import check, loaded
from processes import DEADLINE_S, Replica, running

#: What a commit asks of the disk, and what folding commits into the tables does.
CALLS = ("posix/io/rw/pwrite", "posix/io/sync/fdatasync")
SEED = 20261123


class Fiu:
    """Lets calls of a process fail, while it runs."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("fiu-run") is None:
            pytest.skip("libfiu is not installed: apt-get install fiu-utils")
        self._pipe = str(directory / "fiu")
        #: The words before a command that can be told.
        self.run = ("fiu-run", "-x", "-f", self._pipe)

    def fail_next(self, replica: Replica, call: str) -> None:
        """The next call of that kind fails with EIO, and only that."""
        self._tell(replica, f"enable name={call},onetime,failinfo={errno.EIO}")

    def mend(self, replica: Replica, call: str) -> None:
        self._tell(replica, f"disable name={call}")

    def _tell(self, replica: Replica, command: str) -> None:
        words = ["fiu-ctrl", "-f", self._pipe, "-c", command, str(replica.pid)]
        subprocess.run(words, check=True, timeout=DEADLINE_S)


def test_a_call_that_fails_costs_what_was_refused_and_nothing_else(
    tmp_path: Path, at_length: bool
) -> None:
    fiu = Fiu(tmp_path)
    moments = random.Random(SEED)
    failures = 100 if at_length else 2
    mine, other = free_ports(2)
    victim = Replica("eu-1", mine, [other], tmp_path, within=fiu.run)
    witness = Replica("us-1", other, [mine], tmp_path)
    with running([victim, witness]):
        with loaded(victim) as load:
            for number in range(failures):
                call = CALLS[number % len(CALLS)]
                load.until_writes(moments.randrange(1, 40))
                refused = len(load.refused)
                fiu.fail_next(victim, call)
                load.until_refused(refused + 1)
                fiu.mend(victim, call)
            load.until_writes(20)
        check([victim, witness], [load])
        victim.kill()
        victim.start().until_ready()
        writes = check([victim, witness], [load])
    assert set(load.refused.values()) == {503}
    print(f"{failures} calls failed with EIO, {len(load.refused)} writes refused, {writes} kept")
