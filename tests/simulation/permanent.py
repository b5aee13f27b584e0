"""Seeds that were red once, and what each of them has found. CI plays them for ever.

A seed is a run only with the plans, the faults and the core of its time: when those change, it
becomes another run. So what it found has a test of its own as well, step by step, and it is named
here; the seed goes on looking around there.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PERMANENT"]

#: Seed → its story in one line, and the test that tells it.
PERMANENT: Final[dict[int, str]] = {
    634: "two replicas waited for each other's earlier incarnations "
    "(test_stories.test_replicas_that_wait_for_each_others_earlier_incarnations)",
}
