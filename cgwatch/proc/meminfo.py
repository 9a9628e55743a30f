"""``/proc/meminfo``: the memory of the whole machine.

::

    MemTotal:       24684084 kB
    MemFree:        24395972 kB
    MemAvailable:   24337584 kB

proc_meminfo(5). The kernel's kB are 1024 bytes.
"""

from __future__ import annotations

from msgspec import Struct

from cgwatch.proc.reading import number, parsed, read_bytes, shown

_KIBIBYTE = 1024


class Meminfo(Struct, frozen=True):
    """Memory and swap of the machine; ``None`` where the kernel has no such line."""

    total_bytes: int
    free_bytes: int | None = None
    available_bytes: int | None = None
    """What new work could have without swapping; since Linux 3.14."""
    buffers_bytes: int | None = None
    cached_bytes: int | None = None
    """The page cache with tmpfs and shared memory, without the swap cache."""
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None


_FIELDS = {
    b"MemTotal": "total_bytes",
    b"MemFree": "free_bytes",
    b"MemAvailable": "available_bytes",
    b"Buffers": "buffers_bytes",
    b"Cached": "cached_bytes",
    b"SwapTotal": "swap_total_bytes",
    b"SwapFree": "swap_free_bytes",
}


def read_meminfo(proc_root: str = "/proc") -> Meminfo:
    """Return the machine's memory; raises a ``KernelFileError`` with the path."""
    path = f"{proc_root}/meminfo"
    return parsed(path, read_bytes(path), parse_meminfo)


def parse_meminfo(data: bytes) -> Meminfo:
    """Return the lines that cgwatch knows; ``ValueError`` for a wrong one, or without ``MemTotal``."""
    values: dict[str, int] = {}
    for line in data.split(b"\n"):
        key, _, value = line.partition(b":")
        if field := _FIELDS.get(key):
            values[field] = _bytes(line, value.split())
    if "total_bytes" not in values:
        raise ValueError("no line MemTotal")
    return Meminfo(**values)


def _bytes(line: bytes, words: list[bytes]) -> int:
    match words:
        case [kibibytes, b"kB"]:
            return number(kibibytes) * _KIBIBYTE
    raise ValueError(f"not a number of kB: {shown(line)}")
