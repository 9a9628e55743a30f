"""What the pages of cgwatch and of cAdvisor say: how often each samples, and what. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

TIMED = b"container_cpu_user_seconds_total"
"""A family of both; cAdvisor's says when each cgroup was sampled."""

_NEARLY = 1.05  # two scrapes are never exactly an interval apart


def rate(pages: Sequence[tuple[float, Mapping[bytes, int]]], interval_seconds: float) -> float | None:
    """Return how often a cgroup is sampled in a second, on average; ``None`` without pages close enough.

    ``pages``: when each came, and the time of the last sample of each cgroup on it. No sample comes sooner
    than an interval after the one before it, so two pages at most that far apart show each of them.
    """
    news = 0
    seconds = 0.0
    for (earlier, before), (later, after) in pairwise(pages):
        if later - earlier <= interval_seconds * _NEARLY:
            both = before.keys() & after.keys()
            news += sum(before[cgroup] != after[cgroup] for cgroup in both)
            seconds += (later - earlier) * len(both)
    return news / seconds if seconds else None


def moments(page: bytes, path: str) -> dict[bytes, int]:
    """Return the time of the last sample of each cgroup below ``path``, in milliseconds, as cAdvisor says."""
    family = b"^" + TIMED + rb"{[^\n]*?"
    cgroup = rb'\bid="(' + re.escape(path.encode()) + rb'/[^"]*)"'
    found = re.findall(family + cgroup + rb"[^\n]*} \S+ (\d+)$", page, re.MULTILINE)
    return {name: int(milliseconds) for name, milliseconds in found}


def lines_of(page: bytes, name: bytes) -> bytes:
    """Return the lines of one family, without its comments."""
    start = page.find(b"\n" + name + b"{")
    return page[start + 1 : page.find(b"\n#", start)] if start >= 0 else b""


def families_of(page: bytes, cgroup: str) -> dict[str, int]:
    """Return the names of the samples of one cgroup, and how many series each has."""
    names = re.findall(rb'^(\w+){[^\n]*?\bid="' + re.escape(cgroup.encode()) + rb'"', page, re.MULTILINE)
    return dict(sorted(Counter(name.decode() for name in names).items()))


def compared(ours: Mapping[str, int], theirs: Mapping[str, int]) -> str:
    """Say what each shows of one container with its default groups, so that the comparison can be judged."""

    def named(side: Mapping[str, int], names: Iterable[str]) -> str:
        return ", ".join(f"{name} ({side[name]})" for name in sorted(names)) or "none"

    one, other = set(ours), set(theirs)
    return (
        f"of one container cgwatch shows {sum(ours.values())} series of {len(one)} names,"
        f" cAdvisor {sum(theirs.values())} of {len(other)},"
        " both with the groups that are on by default\n"
        f"  both: {', '.join(sorted(one & other)) or 'none'}\n"
        f"  only cgwatch: {named(ours, one - other)}\n"
        f"  only cAdvisor: {named(theirs, other - one)}"
    )
