"""The cpuset controller: which CPUs and memory nodes the processes of a cgroup may use.

v2: Documentation/admin-guide/cgroup-v2.rst, "Cpuset" (since 5.0).
v1: Documentation/admin-guide/cgroup-v1/cpusets.rst; the effective masks are there since 3.17.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import FormatError, boolean


class CpusetStats(Struct, frozen=True, gc=False):
    """What is left of the configured masks after those of the ancestors, and what is offline."""

    cpus: int | None = None
    """How many may be used; 0 on v1 before anybody has configured any: then no process can enter."""
    memory_nodes: int | None = None
    memory_migrate: bool | None = None
    """v1: whether pages move along when the memory nodes change; on v2 they always do."""


_LIST = re.compile(rb"(?:\d{1,5}(?:-\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*)?\n")
_ITEM = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MOST = 1 << 16
"""More CPUs and memory nodes than Linux can be built for."""


def parse_list(raw: bytes) -> int:
    """How many numbers a list such as ``0-3,8`` has: ascending ranges, as the kernel prints a bit mask."""
    if not _LIST.fullmatch(raw):
        raise FormatError("a list of numbers and ranges", raw)
    count, before = 0, -1
    for item in filter(None, raw.strip().split(b",")):
        first, _, last = item.partition(b"-")
        start, end = int(first), int(last or first)
        if not before < start <= end < _MOST:
            raise FormatError("ascending numbers and ranges", raw)
        count, before = count + end - start + 1, end
    return count


def numbers_of(text: str) -> frozenset[int]:
    """Return the numbers of a list such as ``0-3,8``, in any order; FormatError if it is none."""
    found: set[int] = set()
    for item in filter(None, text.strip().split(",")):
        match = _ITEM.fullmatch(item)
        start, end = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not start <= end < _MOST:
            raise FormatError("a list of numbers and ranges", text.encode())
        found.update(range(start, end + 1))
    return frozenset(found)


FILES_V2 = (
    File("cpuset.cpus.effective", parse_list, setting=True, since=(5, 0)),
    File("cpuset.mems.effective", parse_list, setting=True, since=(5, 0)),
)

_V1: dict[str, Any] = {"controller": "cpuset"}

FILES_V1 = (
    # No setting, though it seldom moves: one open file in the hierarchy tells that the cgroup still lives.
    File("cpuset.effective_cpus", parse_list, since=(3, 17), **_V1),
    File("cpuset.effective_mems", parse_list, since=(3, 17), setting=True, **_V1),
    File("cpuset.memory_migrate", boolean, setting=True, **_V1),
)


def stats(
    cpus: int | None,
    memory_nodes: int | None,
    memory_migrate: bool | None = None,  # noqa: FBT001 - one argument for each file
) -> CpusetStats:
    """Make one object of the files in ``FILES_V2`` or ``FILES_V1``."""
    return CpusetStats(cpus, memory_nodes, memory_migrate)
