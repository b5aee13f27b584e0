"""Seeds that were red once, and what each of them has found. CI plays them for ever.

A seed is a run only with the plans, the faults and the core of its time: when those change, it
becomes another run. So what it found has a test of its own as well, step by step, and it is named
here; the seed goes on looking around there.
"""

from __future__ import annotations

from typing import Final

__all__ = ["OPEN", "PERMANENT"]

#: Seed → its story in one line, and the test that tells it.
PERMANENT: Final[dict[int, str]] = {
    41: "of two concurrent transactions each won in part, for each operation had a time of its own "
    "(test_engine.test_of_two_concurrent_transactions_one_wins_whole)",
    63: "the same, between other machines",
    122: "a donor that was put back gave out dots again that were in a newcomer's copy "
    "(test_put_back.test_a_donor_was_put_back_while_it_was_copied)",
    249: "a counter counted twice what had been reset while its replica was evicted "
    "(test_reclaiming.test_what_was_reset_does_not_come_back_with_who_was_evicted)",
    364: "what an evicted machine enabled counts as after a mark that was taken out for idle "
    "meanwhile (test_checks.test_a_mark_that_is_taken_out_counts_against_what_members_wrote)",
    391: "a copy of a directory was called what one was called that was gone, and evicted for it "
    "(test_simulation.test_no_name_is_given_again)",
    481: "the same as 364, seen by users that hop between machines",
    634: "two replicas waited for each other's earlier incarnations "
    "(test_stories.test_replicas_that_wait_for_each_others_earlier_incarnations)",
    1132: "who had started again waited for one that could not be asked and did not speak "
    "(test_stories.test_who_can_only_ask_meets_whoever_joins)",
    1167: "the same as 364, of a member of a set, by a machine of another's name and URL",
}

#: Seeds that are red and not yet understood: nothing may be added here to get a change through.
OPEN: Final[dict[int, str]] = {
    544: "two live machines of one name and URL take each other out of the members by turns; what one "
    "resets meanwhile, and what the others have folded without it, cannot be told apart any more",
}
