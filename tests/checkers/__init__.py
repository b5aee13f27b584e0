"""The promises as pure functions: from a small explicit history to a list of violations.

Nothing here knows what was judged: a simulated cluster, real processes, or a history that somebody
wrote down by hand. Each checker stands alone, and `test_*.py` beside it hands it histories that it
must reject: a checker that cannot fail proves nothing.

| module | promise | a history is |
| --- | --- | --- |
| `convergence` | who has seen the same shows the same, and what the oracle says | states |
| `durability` | no acknowledged operation is lost | what was held, put back, found again |
| `causality` | causal consistency (the bad patterns of Bouajjani et al. 2017) | transactions |
| `sessions` | the four session guarantees of Terry et al. 1994 | transactions |
| `atomicity` | no fractured reads: a transaction is visible whole | transactions |
| `resurrection` | what was removed stays removed | additions, removals, views |
| `dots` | no dot is ever issued twice | issued ranges |
| `bounds` | memory and queues are bounded | samples |
| `invariants` | what values of a type may never do, from one look to the next | sights |
"""
