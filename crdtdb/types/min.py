"""`min`: the least value that was set, in the order of JSON values.

Deleting removes the values it saw; what was set again meanwhile, or is less, stays.
"""

from __future__ import annotations

from collections.abc import Collection

from crdtdb.types._extreme import ExtremeType, order

__all__ = ["TYPE"]


class Minimum(ExtremeType):
    name = "min"
    summary = "The least JSON value that was set; greater ones change nothing."

    def outermost(self, texts: Collection[bytes]) -> bytes:
        return min(texts, key=order)


TYPE = Minimum()
