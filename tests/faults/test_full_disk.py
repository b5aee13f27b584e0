"""A disk that is really full: a small file system in a file, mounted over a loop device.

Writes are refused with 507 and change nothing, reads go on, the replica says so, and writes go on
by themselves when there is room again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from crdtdb_server.ports import free_ports
from processes import Replica, until

CYCLES = 5
ROOM_BYTES = 12_000_000
VALUE = "x" * 100_000


@pytest.fixture
def small_disk(tmp_path: Path, at_length: bool) -> Iterator[Path]:
    """A file system with little room."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a file system is made and mounted by root, with mkfs.ext4")
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate((256 if at_length else 48) * 1_048_576)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def weigh_down(ballast: Path) -> None:
    """Leave little room, whatever else is written meanwhile."""
    with ballast.open("wb") as file, suppress(OSError):
        while (free := os.statvfs(ballast)).f_bavail * free.f_bsize > ROOM_BYTES:
            file.write(bytes(1_000_000))
            file.flush()


def fill(replica: Replica, first: int) -> tuple[list[int], int]:
    """Write until one write is refused: those that were not, and the one that was."""
    done: list[int] = []
    for number in range(first, first + 10_000):
        answer = replica.post(f"register/{number}", {"op": "set", "value": VALUE})
        if answer.status_code != 200:
            assert answer.status_code == 507, answer.text
            assert answer.json()["code"] == "no-space"
            return done, number
        done.append(number)
    raise AssertionError("the disk is never full")


def test_a_full_disk_refuses_writes_until_there_is_room(small_disk: Path, at_length: bool) -> None:
    replica = Replica("eu-1", free_ports(1)[0], [], small_disk)
    replica.log = small_disk.parent / "eu-1.log"
    written: list[int] = []
    refused: list[int] = []
    with replica:
        replica.until_ready()
        for cycle in range(CYCLES if at_length else 1):
            ballast = small_disk / "ballast"
            weigh_down(ballast)
            done, first_refused = fill(replica, cycle * 10_000)
            before = replica.digest()
            written += done
            refused.append(first_refused)
            for number in range(first_refused + 1, first_refused + 6):
                answer = replica.post(f"register/{number}", {"op": "set", "value": VALUE})
                if answer.status_code == 200:
                    written.append(number)
                    before = replica.digest()
                else:
                    assert answer.status_code == 507, answer.text
                    refused.append(number)
            assert replica.digest() == before, "what is refused changes nothing"
            assert replica.http.get("/readyz").json()["state"] == "read_only"
            assert replica.http.get("/readyz?for=write").status_code == 503
            assert replica.value(f"register/{written[-1]}") == VALUE
            ballast.unlink()
            until("there is room again", lambda: _increments(replica))
        replica.kill()
        replica.start().until_ready()
        assert all(replica.value(f"register/{number}") == VALUE for number in written)
        assert all(replica.value(f"register/{number}") is None for number in refused)
    print(f"{len(written)} writes kept, {len(refused)} refused, none half done")


def _increments(replica: Replica) -> bool:
    return replica.post("counter/c", {"op": "increment"}).status_code == 200
