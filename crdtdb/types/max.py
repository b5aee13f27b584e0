"""`max`: the greatest value that was set, in the order of JSON values.

Deleting removes the values it saw; what was set again meanwhile, or is greater, stays.
"""

from __future__ import annotations

from collections.abc import Collection

from crdtdb.types._extreme import ExtremeType, order

__all__ = ["TYPE"]


class Maximum(ExtremeType):
    name = "max"
    summary = "The greatest JSON value that was set; lower ones change nothing."

    def outermost(self, texts: Collection[bytes]) -> bytes:
        return max(texts, key=order)


TYPE = Maximum()
