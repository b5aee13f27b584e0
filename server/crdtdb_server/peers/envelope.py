"""How frames travel in HTTP: several in one body, compressed when that pays.

Body = { length, 4 bytes big-endian | frame }*, as it is or zstd (`Crdtdb-Encoding: zstd`; a header
of our own, so that no HTTP library in between inflates a body before its size is bounded). Who
speaks stands in the header `Crdtdb-Sender`, base64url, so an idle digest stays a few bytes.
A peer may be hostile: what it declares about sizes is not believed.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Final

import zstandard

from crdtdb.errors import PeerError
from crdtdb.replication.messages import Sender, read_sender, write_sender

__all__ = [
    "BODY_BYTES",
    "BODY_FRAMES",
    "ENCODING_HEADER",
    "PATH",
    "SENDER_HEADER",
    "open_body",
    "open_sender",
    "seal_body",
    "seal_sender",
]

PATH: Final = "/replication/v1/frames"
SENDER_HEADER: Final = "Crdtdb-Sender"
ENCODING_HEADER: Final = "Crdtdb-Encoding"

#: One exchange, decompressed. A page is far smaller; one value can be 1 MiB.
BODY_BYTES: Final = 32 * 1_048_576
#: Frames of one exchange, each of which is work. An honest link holds no more than 1,024 back, and
#: few of them call for more than one answer.
BODY_FRAMES: Final = 8_192
_COMPRESS_FROM_BYTES: Final = 512
#: Of zstd. What is much is somebody's first copy, who waits for it: twice as fast, a tenth more.
_LEVEL: Final = 3
_FAST_FROM_BYTES: Final = 524_288
_FAST_LEVEL: Final = 1
_SENDER_CHARACTERS: Final = 2_048


def seal_sender(sender: Sender) -> str:
    """The header that says who speaks."""
    return urlsafe_b64encode(write_sender(sender)).decode()


def open_sender(header: str) -> Sender:
    """Who speaks. Raises PeerError."""
    if not 0 < len(header) <= _SENDER_CHARACTERS:
        raise PeerError("bad-frame", f"{SENDER_HEADER} is missing or too long")
    try:
        return read_sender(urlsafe_b64decode(header))
    except (binascii.Error, ValueError) as error:
        raise PeerError("bad-frame", f"{SENDER_HEADER} cannot be read") from error


def seal_body(frames: Iterable[bytes]) -> tuple[bytes, str | None]:
    """A body and its content encoding, if it has one."""
    body = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    if len(body) < _COMPRESS_FROM_BYTES:
        return body, None
    level = _LEVEL if len(body) < _FAST_FROM_BYTES else _FAST_LEVEL
    return zstandard.ZstdCompressor(level=level).compress(body), "zstd"


def open_body(body: bytes, encoding: str | None) -> list[bytes]:
    """The frames in a body. Raises PeerError."""
    if encoding == "zstd":
        body = _decompress(body)
    elif encoding not in (None, "", "identity"):
        raise PeerError("bad-frame", f"content encoding {encoding!r} is not known")
    frames: list[bytes] = []
    start = 0
    while start < len(body):
        end = start + 4 + int.from_bytes(body[start : start + 4], "big")
        if end > len(body):
            raise PeerError("bad-frame", "a body ends within a frame")
        frames.append(body[start + 4 : end])
        start = end
        if len(frames) > BODY_FRAMES:
            raise PeerError("too-large", f"a body holds more than {BODY_FRAMES} frames")
    return frames


def _decompress(body: bytes) -> bytes:
    """Bounded: the size that a zstd frame declares is not a bound (it may lie)."""
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body)
    try:
        plain: bytes = reader.read(BODY_BYTES + 1)
    except zstandard.ZstdError as error:
        raise PeerError("bad-frame", f"a body cannot be decompressed: {error}") from error
    if len(plain) > BODY_BYTES:
        raise PeerError("too-large", f"a body holds more than {BODY_BYTES} bytes")
    return plain
