"""How an explanation writes what it says: parts of memory, places, shares and times. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cgwatch.oom.case import Consumer
from cgwatch.units import format_duration, format_size

KINDS: Mapping[Consumer, str] = {
    Consumer.ANON: "anonymous memory (heap and stacks of processes)",
    Consumer.CACHE: "page cache of files",
    Consumer.SHMEM: "shmem (files in a tmpfs, shared memory)",
    Consumer.KERNEL: "kernel memory",
}
SHORT_KINDS: Mapping[Consumer, str] = {
    Consumer.ANON: "anonymous memory",
    Consumer.CACHE: "page cache",
    Consumer.SHMEM: "shmem",
    Consumer.KERNEL: "kernel memory",
}
_NOTABLE = 0.01


def share(part: float, whole: float) -> str:
    """Return a part in percent, without a claim of all or nothing that is not one."""
    if not whole:
        return "all"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "less than 1%"
    return "more than 99%" if 99 < percent < 100 else f"{percent:.0f}%"  # noqa: PLR2004 - percents


def notable(parts: Mapping[Consumer, int], whole: float) -> dict[Consumer, int]:
    """Return the parts that are worth a word: a hundredth of the whole or more."""
    return {kind: size for kind, size in parts.items() if size >= _NOTABLE * whole}


def listed(words: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def seconds(value: float) -> str:
    """Return a duration as people say it: tenths below ten seconds, no seconds beside hours."""
    if value < 10:  # noqa: PLR2004 - two digits
        return format_duration(round(value, 1))
    return format_duration(round(value / 60) * 60 if value >= 3600 else round(value))  # noqa: PLR2004 - an hour


def pace(bytes_per_second: float) -> tuple[float, str]:
    """Return a pace per minute, and in words."""
    per_minute = bytes_per_second * 60
    return per_minute, f"{format_size(per_minute)} a minute"


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th``."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{suffix}"
