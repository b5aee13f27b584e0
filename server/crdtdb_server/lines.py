"""Lines of a body that arrives in parts, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

__all__ = ["split_lines"]


async def split_lines(parts: AsyncIterator[bytes], longest: int) -> AsyncIterator[bytes | None]:
    """Lines without their ends; None for one with more bytes than `longest`, which is not kept."""
    rest: list[bytes] = []
    size = 0
    async for part in parts:
        *ended, last = part.split(b"\n")
        for piece in ended:
            size += len(piece)
            rest.append(piece)
            yield b"".join(rest) if size <= longest else None
            rest.clear()
            size = 0
        size += len(last)
        if size <= longest:
            rest.append(last)
        else:
            rest.clear()
    if size:
        yield b"".join(rest) if size <= longest else None
