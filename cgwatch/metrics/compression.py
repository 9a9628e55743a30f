"""gzip (RFC 1952) of a page whose greater part is compressed once, however many clients there are.

The parts are blocks of DEFLATE (RFC 1951) that end at whole bytes, so that they can stand one behind the
other, as one member: not every client reads a second one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from msgspec import Struct

try:
    from isal import isal_zlib as zlib  # five times as fast on these pages, and no larger
except ImportError:  # an architecture for which it is not built
    import zlib  # type: ignore[no-redef]  # the same functions

_LEVEL = 1
_RAW = -15
"""Without a header: the parts share one."""
_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
_TRAILER = struct.Struct("<LL")


class Compressed(Struct, frozen=True):
    """The beginning of a page."""

    content: bytes
    checksum: int
    size_bytes: int

    def completed(self, rest: Iterable[bytes]) -> bytes:
        """Return the whole page with ``rest`` at its end."""
        content, checksum, size_bytes = _deflate(rest, zlib.Z_FINISH, self.checksum)
        trailer = _TRAILER.pack(checksum, (self.size_bytes + size_bytes) & 0xFFFFFFFF)
        return b"".join((_HEADER, self.content, content, trailer))


def compress(parts: Iterable[bytes]) -> Compressed:
    """Compress the beginning of a page."""
    return Compressed(*_deflate(parts, zlib.Z_FULL_FLUSH, 0))


def _deflate(parts: Iterable[bytes], flush: int, checksum: int) -> tuple[bytes, int, int]:
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
    pieces = []
    size_bytes = 0
    for part in parts:
        pieces.append(deflate.compress(part))
        checksum = zlib.crc32(part, checksum)
        size_bytes += len(part)
    pieces.append(deflate.flush(flush))
    return b"".join(pieces), checksum, size_bytes
