"""Disasters as short stories that run: `*.txt` here, told to the real core under virtual time.

What begins at the margin is prose. What is indented is done, line by line:

    replicas eu us ap                     they start, know each other and serve
    join sa                               one more, which knows the others
    pages of 2 records                    how much a donor sends at once
    eu: set carts/anna add milk           TYPE BUCKET/KEY OPERATION [VALUE | NAME=VALUE]…
    eu refuses: set carts/anna add milk   likewise, where it must be refused
    eu us: set carts/anna = ["milk"]      what each shows now; `every replica: …` for all that serve
    eu: members = 3                       also `tombstones` and `cuts`: records that are left
    cut eu us | ap                        groups that do not hear each other
    cut eu > us                           what eu sends to us is lost
    cut eu - us                           one link, both ways
    heal                                  everything that was cut
    wait 30 days                          also ms, seconds, minutes, hours
    wait until equal                      all that are up and not evicted, within ten minutes
    stop eu, start eu                     power (two lines)
    back up eu, restore eu                its disk; restoring starts it with what the copy held
    lose disk of eu                       it starts with an empty one
    copy eu to eu2                        a second machine on a copy of its directory
    clock of eu jumps -10 minutes
    ap evicts eu, eu rejoins              an operator says so (two lines)
    eu is evicted                         also `serves`, `is new` and `is the same` (its identity)

After every message the judge of the simulator compares what replicas show with what the causal
history says, and every story ends with the checkers. So a script says what is worth telling; what
must never be, it need not say. An error names the file and the line.
"""
