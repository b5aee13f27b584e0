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
    312: "a map whose other leaves went had no head any more (test_reclaiming."
    "test_a_map_keeps_its_head_when_all_else_in_it_went_before_its_log_came)",
    363: "a machine that failed in an operator's step was looked at before it was down "
    "(`World.bury`)",
    544: "two live machines of one name and URL take each other out of the members by turns: what "
    "one resets, and the others have folded, cannot be told apart (`Judge.disputed`)",
    5604: "a cut that was reclaimed here did not cover what came again with a donor's log "
    "(test_reclaiming.test_a_cut_that_only_the_donor_still_holds_covers_what_is_taken_over)",
    6351: "a machine that was put back and a donor had each folded what the other had not, and "
    "that was refused as another cluster's (`Repair._are_apart`)",
    6479: "an element was put beside others that its writer did not hold any more "
    "(`Issued.let_go`)",
    7271: "a damaged place of the sequence ended the look for what to give (test_sharing."
    "test_a_damaged_place_of_the_sequence_keeps_nobody_from_sharing)",
    9089: "pages of a pull that broke off were kept when all had come otherwise (test_staging."
    "test_pages_of_a_pull_that_broke_off_are_let_go_when_all_has_come_otherwise)",
    9117: "late answers to who it was before made somebody else of a machine, again and again "
    "(test_stories.test_late_answers_to_who_it_was_before_make_nobody_of_it_again)",
    9243: "two who had both started again waited for each other's word, for neither knew the other "
    "(`Cluster._knock_at_members`)",
    8485: "the same as 7365, of what it removed after it had rejoined, before it had pulled",
    7365: "what a machine removed of a list while it was evicted and did not know it was removed "
    "at some replicas (test_reclaiming.test_who_was_evicted_takes_no_part_out_of_a_sum)",
}

#: Seeds that are red and not yet understood: nothing may be added here to get a change through.
OPEN: Final[dict[int, str]] = {}
