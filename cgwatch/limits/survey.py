"""A look at one cgroup, at all above it and all below it, for planning."""

from __future__ import annotations

import os

from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.cgroup.hugetlb import page_sizes
from cgwatch.cgroup.limit_files import holder, read_limits, versions
from cgwatch.cgroup.limit_use import read_use
from cgwatch.change import CgroupState, Node, Tree
from cgwatch.errors import FileMissingError, KernelFileError
from cgwatch.oom.state import lineage
from cgwatch.proc.diskstats import DiskKind, disk_kind, read_diskstats
from cgwatch.proc.meminfo import read_meminfo
from cgwatch.proc.reading import read_bytes
from cgwatch.proc.topology import parse_ids

MOST_BELOW = 256
"""More cgroups below one are not read. The kernel checks against them all, and what it refuses is undone."""


def read_tree(
    hierarchies: Hierarchies, path: str, *, proc_root: str = "/proc", sys_root: str = "/sys"
) -> Tree:
    """Read the limits and the use of the cgroup ``path``, of all above and of ``MOST_BELOW`` below it.

    Raises ``FileMissingError`` when there is no such cgroup.
    """
    disks = _disks(proc_root, sys_root)
    sizes = page_sizes(sys_root)
    cgroups = {}
    for each in (*lineage(path), *_below(hierarchies, path)):
        try:
            cgroups[each] = _state(hierarchies, each, disks, sizes)
        except FileMissingError:
            if each == path:
                raise
    return Tree(_node(proc_root, sys_root), versions(hierarchies), cgroups)


def _state(
    hierarchies: Hierarchies, path: str, disks: tuple[str, ...], sizes: tuple[str, ...]
) -> CgroupState:
    read = read_limits(hierarchies, path, devices=disks)
    use = read_use(hierarchies, path, huge_page_sizes=sizes)
    return CgroupState(
        path,
        read.inode,
        read.values,
        memory_usage_bytes=use.memory_bytes,
        reclaimable_bytes=use.reclaimable_bytes,
        anon_bytes=use.anon_bytes,
        swap_usage_bytes=use.swap_bytes,
        processes=use.processes,
        used=use.others,
    )


def _below(hierarchies: Hierarchies, path: str) -> list[str]:
    """Return the cgroups below one, of all hierarchies that have limits, the nearest first."""
    found: dict[str, None] = {}
    places = dict.fromkeys(filter(None, (holder(hierarchies, name) for name in versions(hierarchies))))
    for hierarchy in places:
        pending = [path]
        while pending and len(found) < MOST_BELOW:
            above = pending.pop(0)
            try:
                with os.scandir(hierarchy.locate(above)) as entries:
                    names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError:
                continue  # gone in the meantime, or not in this hierarchy
            children = [f"{above.rstrip('/')}/{name}" for name in names]
            found |= dict.fromkeys(children)
            pending += children
    return list(found)[:MOST_BELOW]


def _disks(proc_root: str, sys_root: str) -> tuple[str, ...]:
    """Return the devices that can have bounds: partitions cannot."""
    try:
        disks = read_diskstats(proc_root)
    except KernelFileError:
        return ()
    return tuple(
        f"{disk.major}:{disk.minor}"
        for disk in disks
        if disk_kind(disk.major, disk.minor, sys_root) is not DiskKind.PARTITION
    )


def _node(proc_root: str, sys_root: str) -> Node:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    cpus = _numbers(f"{sys_root}/devices/system/cpu/online")
    memory_nodes = _numbers(f"{sys_root}/devices/system/node/online")
    try:
        meminfo = read_meminfo(proc_root)
    except KernelFileError:
        return Node(page_bytes, None, cpus, memory_nodes)
    return Node(page_bytes, meminfo.total_bytes, cpus, memory_nodes, meminfo.swap_free_bytes)


def _numbers(path: str) -> frozenset[int]:
    """Return the numbers of one file of sysfs; none where it cannot be read."""
    try:
        return frozenset(parse_ids(read_bytes(path)))
    except (KernelFileError, ValueError):
        return frozenset()
