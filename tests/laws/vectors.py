"""Dots and version vectors for the laws: of few incarnations, so that they meet."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from crdtdb.causal import VersionVector
from crdtdb.floors import floor_of

__all__ = ["dots", "floored", "vectors"]

#: The least, the greatest, and some in between.
_INCARNATIONS: Final = st.sampled_from([0, 1, 2, 255, 2**32, 2**64 - 1])
_COUNTERS: Final = st.integers(1, 6) | st.sampled_from([255, 2**32, 2**63 - 1])

dots: Final = st.tuples(_INCARNATIONS, _COUNTERS)
vectors: Final = st.dictionaries(_INCARNATIONS, _COUNTERS, max_size=5).map(VersionVector)
#: On some floor, or on none.
floored: Final = vectors | st.builds(
    lambda vector, below: vector.above(floor_of(below)), vectors, vectors
)
