"""Memory of a cgroup by node of the machine, from the memory controller's ``memory.numa_stat``.

v2: Documentation/admin-guide/cgroup-v2.rst, "memory.numa_stat" (since 5.10).
v1: Documentation/admin-guide/cgroup-v1/memory.rst, 5.6.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from msgspec import Struct

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import FormatError

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
"""Of the running kernel."""


class NumaPages(Struct, frozen=True, gc=False):
    """Pages of one kind on one node."""

    kind: str
    """The kernel's word: ``file``, ``anon`` or ``unevictable``."""
    node: int
    pages: int


class NumaStats(Struct, frozen=True, gc=False):
    """Pages on each node."""

    own: tuple[NumaPages, ...] = ()
    """Of this cgroup alone; v1 only."""
    hierarchical: tuple[NumaPages, ...] = ()
    """With those of all below it."""


_KINDS = ("file", "anon", "unevictable")
_LINE_V1 = re.compile(rb"(\w+)=\d{1,20}((?: N\d{1,5}=\d{1,20})*)")
_LINE_V2 = re.compile(rb"(\w+)((?: N\d{1,5}=\d{1,20})*)")


def _lines(raw: bytes, pattern: re.Pattern[bytes], expected: str) -> Iterator[tuple[str, list[bytes]]]:
    if not raw.endswith(b"\n"):
        raise FormatError(expected, raw)
    for line in raw[:-1].split(b"\n"):
        match = pattern.fullmatch(line)
        if match is None:
            raise FormatError(expected, raw)
        yield match[1].decode("ascii"), match[2].split()


def _pages(kind: str, words: list[bytes], unit: int = 1) -> Iterator[NumaPages]:
    for word in words:
        node, _, value = word[1:].partition(b"=")
        yield NumaPages(kind, int(node), int(value) // unit)


def parse_v1(raw: bytes) -> NumaStats:
    """``KIND=TOTAL N0=PAGES ...``; those of the whole subtree are ``hierarchical_KIND`` (since 3.19)."""
    found = dict(_lines(raw, _LINE_V1, "lines of KEY=PAGES N0=PAGES"))
    return NumaStats(
        own=tuple(each for kind in _KINDS for each in _pages(kind, found.get(kind, []))),
        hierarchical=tuple(
            each for kind in _KINDS for each in _pages(kind, found.get(f"hierarchical_{kind}", []))
        ),
    )


def parse_v2(raw: bytes) -> NumaStats:
    """``KIND N0=BYTES ...``, of the whole subtree; other kinds are skipped."""
    found = dict(_lines(raw, _LINE_V2, "lines of KEY N0=BYTES"))
    return NumaStats(
        hierarchical=tuple(each for kind in _KINDS for each in _pages(kind, found.get(kind, []), PAGE_BYTES))
    )


_NUMA = "a kernel that knows memory nodes (CONFIG_NUMA)"

FILES_V2 = (File("memory.numa_stat", parse_v2, since=(5, 10), needs=_NUMA),)
FILES_V1 = (File("memory.numa_stat", parse_v1, needs=_NUMA, controller="memory"),)


def stats(numa: NumaStats | None) -> NumaStats | None:
    """The file says it all."""
    return numa
