"""How much of its limits one cgroup uses: what has to be known before they are lowered."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from cgwatch.cgroup import core, memory, pids
from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import FormatError, integer
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy
from cgwatch.cgroup.knob import V2
from cgwatch.cgroup.limit_files import holder, read_file
from cgwatch.errors import KernelFileError


class LimitUse(Struct, frozen=True):
    """Of one cgroup and all below it; ``None``: the kernel did not say."""

    memory_bytes: int | None = None
    reclaimable_bytes: int | None = None
    """Page cache that is neither dirty nor locked, and slab of caches (v2; v1 does not tell of it)."""
    anon_bytes: int | None = None
    """Memory of processes, and shared memory: what can only go to swap."""
    swap_bytes: int | None = None
    processes: int | None = None
    """In this very cgroup."""
    others: Mapping[str, int] = {}
    """Of ``pids.max`` and ``hugetlb.SIZE.max``, by key."""


def read_use(hierarchies: Hierarchies, path: str, *, huge_page_sizes: Iterable[str] = ()) -> LimitUse:
    """Read what is used; whatever cannot be read is ``None``, or not among ``others``."""
    use: dict[str, Any] = {"processes": _processes(hierarchies, path)}
    if hierarchy := holder(hierarchies, "memory"):
        use |= _memory(hierarchy, hierarchy.locate(path))
    others: dict[str, int | None] = {}
    if hierarchy := holder(hierarchies, "pids"):
        others["pids.max"] = _read(hierarchy.locate(path), pids.FILES_V2[0])
    if hierarchy := holder(hierarchies, "hugetlb"):
        word = "current" if hierarchy.version == V2 else "usage_in_bytes"
        for name in (f"hugetlb.{size}{kind}" for size in huge_page_sizes for kind in ("", ".rsvd")):
            others[f"{name}.max"] = _read(hierarchy.locate(path), File(f"{name}.{word}", integer))
    known = {key: value for key, value in others.items() if value is not None}
    return LimitUse(**use, others=known)


def _processes(hierarchies: Hierarchies, path: str) -> int | None:
    """Count them in the hierarchy that minds: v1's cpuset keeps its last CPU while there are any."""
    hierarchy = holder(hierarchies, "cpuset") or holder(hierarchies, "memory") or hierarchies.unified
    found = _read(hierarchy.locate(path), core.FILES_V2[0]) if hierarchy else None
    return found.count if found else None


def _memory(hierarchy: Hierarchy, directory: str) -> dict[str, int | None]:
    is_v2 = hierarchy.version == V2
    files = memory.FILES_V2 if is_v2 else memory.FILES_V1
    stats = (memory.stats_v2 if is_v2 else memory.stats_v1)(*(_read(directory, file) for file in files))
    stat = stats.stat
    return {
        "memory_bytes": stats.usage_bytes,
        "reclaimable_bytes": _reclaimable(stat),
        "anon_bytes": _sum(stat.inactive_anon_bytes, stat.active_anon_bytes),
        "swap_bytes": stats.swap_usage_bytes,
    }


def _reclaimable(stat: memory.MemoryStat) -> int | None:
    # Locked pages are on neither list; dirty ones have to be written first, which reclaim alone does not.
    cache = _sum(stat.inactive_file_bytes, stat.active_file_bytes)
    if cache is None:
        return None
    held = (stat.file_dirty_bytes or 0) + (stat.file_writeback_bytes or 0)
    return max(cache - held, 0) + (stat.slab_reclaimable_bytes or 0)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _read(directory: str, file: File) -> Any:  # noqa: ANN401 - as the file's row has it
    try:
        return file.parse(read_file(os.path.join(directory, file.name)))
    except (KernelFileError, FormatError):
        return None
