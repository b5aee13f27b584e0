"""A whole cluster in one process: the real core under virtual time and one seeded scheduler.

    python tests/simulation --seed 17 --trace      one run, told event by event
    python tests/simulation --seeds 1000:2000      many runs, with what they covered
    python tests/simulation --for 30m --jobs 4 --start 5000      as many as there is time for

Reading order: `scheduler`, `clock`, `network`, `disk` are the world; `replica` is one machine with
the core on it; `plan` and `faults` (one function each) decide what goes wrong, `workload` what
users do; `ledger` and `checks` say what must hold at once, `notes` are what the `checkers` get at
the end; `cluster` puts a run together; `broken` holds variants of the core that must be caught,
`permanent` the seeds that were red once.

Everything that happens is one event of one heap and everything random is drawn from the seed, so
a seed is a run: it can be named in a failure and played again.
"""
