"""The memory controller.

v2: Documentation/admin-guide/cgroup-v2.rst, "Memory". v1: Documentation/admin-guide/cgroup-v1/memory.rst.
v1 numbers are the hierarchical ones (``total_*``): v2 has no others, and a container is its subtree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from cgwatch.cgroup.files import Fault, File
from cgwatch.cgroup.formats import boolean, flat_keyed, integer, limit

_UNLIMITED_V1 = 1 << 62
"""v1 has no word for "no limit": it shows the largest page counter, rounded down to a page (2^63 - 4096,
on 64 KiB pages 2^63 - 65536). Nothing that large is a limit."""


class MemoryStat(Struct, frozen=True, gc=False):
    """``memory.stat``: the breakdown of the usage, in bytes, and event counts, in pages or faults."""

    anon_bytes: int | None = None
    file_bytes: int | None = None
    kernel_bytes: int | None = None
    """All kernel memory, slab and stacks included; since 5.18."""
    kernel_stack_bytes: int | None = None
    pagetables_bytes: int | None = None
    percpu_bytes: int | None = None
    sock_bytes: int | None = None
    vmalloc_bytes: int | None = None
    shmem_bytes: int | None = None
    zswap_bytes: int | None = None
    zswapped_bytes: int | None = None
    file_mapped_bytes: int | None = None
    file_dirty_bytes: int | None = None
    file_writeback_bytes: int | None = None
    swapcached_bytes: int | None = None
    anon_thp_bytes: int | None = None
    inactive_anon_bytes: int | None = None
    active_anon_bytes: int | None = None
    inactive_file_bytes: int | None = None
    active_file_bytes: int | None = None
    unevictable_bytes: int | None = None
    slab_reclaimable_bytes: int | None = None
    slab_unreclaimable_bytes: int | None = None
    slab_bytes: int | None = None
    swap_bytes: int | None = None
    """v1 only; v2 has ``memory.swap.current``."""
    page_faults_total: int | None = None
    major_page_faults_total: int | None = None
    own_page_faults_total: int | None = None
    """v1 only: without the descendants'."""
    own_major_page_faults_total: int | None = None
    """v1 only: without the descendants'."""
    scanned_pages_total: int | None = None
    reclaimed_pages_total: int | None = None
    refaulted_anon_pages_total: int | None = None
    refaulted_file_pages_total: int | None = None


STAT_KEYS_V2 = {
    "anon_bytes": "anon",
    "file_bytes": "file",
    "kernel_bytes": "kernel",
    "kernel_stack_bytes": "kernel_stack",
    "pagetables_bytes": "pagetables",
    "percpu_bytes": "percpu",
    "sock_bytes": "sock",
    "vmalloc_bytes": "vmalloc",
    "shmem_bytes": "shmem",
    "zswap_bytes": "zswap",
    "zswapped_bytes": "zswapped",
    "file_mapped_bytes": "file_mapped",
    "file_dirty_bytes": "file_dirty",
    "file_writeback_bytes": "file_writeback",
    "swapcached_bytes": "swapcached",
    "anon_thp_bytes": "anon_thp",
    "inactive_anon_bytes": "inactive_anon",
    "active_anon_bytes": "active_anon",
    "inactive_file_bytes": "inactive_file",
    "active_file_bytes": "active_file",
    "unevictable_bytes": "unevictable",
    "slab_reclaimable_bytes": "slab_reclaimable",
    "slab_unreclaimable_bytes": "slab_unreclaimable",
    "slab_bytes": "slab",
    "page_faults_total": "pgfault",
    "major_page_faults_total": "pgmajfault",
    "scanned_pages_total": "pgscan",
    "reclaimed_pages_total": "pgsteal",
    "refaulted_anon_pages_total": "workingset_refault_anon",
    "refaulted_file_pages_total": "workingset_refault_file",
}

STAT_KEYS_V1 = {
    "anon_bytes": "total_rss",
    "file_bytes": "total_cache",
    "shmem_bytes": "total_shmem",
    "file_mapped_bytes": "total_mapped_file",
    "file_dirty_bytes": "total_dirty",
    "file_writeback_bytes": "total_writeback",
    "swapcached_bytes": "total_swapcached",
    "anon_thp_bytes": "total_rss_huge",
    "inactive_anon_bytes": "total_inactive_anon",
    "active_anon_bytes": "total_active_anon",
    "inactive_file_bytes": "total_inactive_file",
    "active_file_bytes": "total_active_file",
    "unevictable_bytes": "total_unevictable",
    "swap_bytes": "total_swap",
    "page_faults_total": "total_pgfault",
    "major_page_faults_total": "total_pgmajfault",
    "own_page_faults_total": "pgfault",
    "own_major_page_faults_total": "pgmajfault",
    "refaulted_anon_pages_total": "total_workingset_refault_anon",
    "refaulted_file_pages_total": "total_workingset_refault_file",
}


class MemoryEvents(Struct, frozen=True, gc=False):
    """``memory.events`` and ``memory.events.local``: how often a boundary was met, as counts.

    ``low``, ``high``, ``max`` and ``oom`` belong to the cgroup whose limit it was; ``oom_kill`` to the
    cgroup of the victim, and when a whole group is killed, its first victim counts twice. v1 knows
    ``oom_kill`` alone (memory.oom_control, since 4.13).
    """

    low: int | None = None
    high: int | None = None
    max: int | None = None
    oom: int | None = None
    oom_kill: int | None = None
    oom_group_kill: int | None = None
    """Since 5.17."""
    sock_throttled: int | None = None
    """Since 6.18."""


class SwapEvents(Struct, frozen=True, gc=False):
    """``memory.swap.events``, as counts; since 5.0, ``high`` since 5.8."""

    high: int | None = None
    max: int | None = None
    fail: int | None = None


class OomControl(Struct, frozen=True, gc=False):
    """v1 ``memory.oom_control``."""

    oom_kill_disable: int | None = None
    under_oom: int | None = None
    oom_kill: int | None = None


class MemoryStats(Struct, frozen=True, gc=False):
    """Memory of one cgroup and all below it."""

    usage_bytes: int | None = None
    """All that is charged, page cache and kernel memory included."""
    peak_bytes: int | None = None
    """The highest usage so far."""
    peak_is_sampled: bool = False
    """The kernel does not keep the peak (v2 before 5.19): it is the highest of the samples."""
    limit_bytes: int | float | None = None
    high_bytes: int | float | None = None
    """v2: above it the tasks are throttled and reclaimed from, never killed."""
    low_bytes: int | float | None = None
    """v2: best-effort protection from reclaim."""
    min_bytes: int | float | None = None
    """v2: hard protection from reclaim."""
    soft_limit_bytes: int | float | None = None
    """v1: reclaimed down to when the node is short of memory."""
    limit_hits_total: int | None = None
    """How often usage ran into the limit: v1 ``memory.failcnt``, v2 ``max`` of ``memory.events``."""
    swap_usage_bytes: int | None = None
    swap_peak_bytes: int | None = None
    swap_limit_bytes: int | float | None = None
    """v2: swap alone."""
    swap_high_bytes: int | float | None = None
    memory_and_swap_usage_bytes: int | None = None
    """v1: memory and swap together."""
    memory_and_swap_limit_bytes: int | float | None = None
    """v1: memory and swap together."""
    kernel_usage_bytes: int | None = None
    oom_group: bool | None = None
    """v2: an OOM kill takes the whole cgroup."""
    oom_kill_disabled: bool | None = None
    """v1: tasks hang instead of being killed."""
    under_oom: bool | None = None
    """v1: tasks hang right now."""
    stat: MemoryStat = MemoryStat()
    events: MemoryEvents = MemoryEvents()
    """v2: with all descendants. v1: empty."""
    events_local: MemoryEvents = MemoryEvents()
    """Of this cgroup alone; since 5.2. v1: ``oom_kill`` of memory.oom_control."""
    swap_events: SwapEvents = SwapEvents()
    """Read as seldom as a limit."""

    @property
    def working_set_bytes(self) -> int | None:
        """Usage without the inactive file cache, at least 0: what the kubelet evicts by."""
        if self.usage_bytes is None:
            return None
        return max(self.usage_bytes - (self.stat.inactive_file_bytes or 0), 0)

    @property
    def docker_usage_bytes(self) -> int | None:
        """Usage as ``docker stats`` shows it: without the inactive file cache, unless that is no less.

        ``calculateMemUsageUnixNoCache`` of docker/cli, ``cli/command/container/stats_helpers.go``.
        """
        usage, inactive = self.usage_bytes, self.stat.inactive_file_bytes
        if usage is None or inactive is None or inactive >= usage:
            return usage
        return usage - inactive


def parse_limit_v1(raw: bytes) -> int | float:
    """Bytes of a v1 limit; what is as good as none is ``math.inf``."""
    value = integer(raw)
    return math.inf if value < 0 or value >= _UNLIMITED_V1 else value


_parse_stat_v2 = flat_keyed(MemoryStat, STAT_KEYS_V2)
_parse_stat_v1 = flat_keyed(MemoryStat, STAT_KEYS_V1)
_parse_events = flat_keyed(MemoryEvents, {name: name for name in MemoryEvents.__struct_fields__})
_parse_swap_events = flat_keyed(SwapEvents, {name: name for name in SwapEvents.__struct_fields__})
_parse_oom_control = flat_keyed(OomControl, {name: name for name in OomControl.__struct_fields__})

_SWAP_ACCOUNTING = "swap accounting (CONFIG_SWAP; swapaccount=1 before 5.8)"
# Counts that hardly ever move, and highest values that nobody waits for. They are late by the settings'
# interval at most; a read at each tick would cost more than it tells.
_SELDOM: dict[str, Any] = {"setting": True}

_CURRENT, _PEAK = "memory.current", "memory.peak"
FILES_V2 = (
    File(_CURRENT, integer, pulse=True, on_root=False),
    File(_PEAK, integer, since=(5, 19), on_root=False),
    File("memory.max", limit, setting=True, on_root=False),
    File("memory.high", limit, setting=True, on_root=False),
    File("memory.low", limit, setting=True, on_root=False),
    File("memory.min", limit, setting=True, since=(4, 18), on_root=False),
    File("memory.oom.group", boolean, setting=True, since=(4, 19), on_root=False),
    File("memory.swap.current", integer, on_root=False, needs=_SWAP_ACCOUNTING),
    File("memory.swap.peak", integer, since=(6, 5), on_root=False, needs=_SWAP_ACCOUNTING, **_SELDOM),
    File("memory.swap.max", limit, setting=True, on_root=False, needs=_SWAP_ACCOUNTING),
    File("memory.swap.high", limit, setting=True, since=(5, 8), on_root=False, needs=_SWAP_ACCOUNTING),
    File(
        "memory.swap.events",
        _parse_swap_events,
        since=(5, 0),
        on_root=False,
        needs=_SWAP_ACCOUNTING,
        **_SELDOM,
    ),
    File("memory.events", _parse_events, on_root=False),
    File("memory.events.local", _parse_events, since=(5, 2), on_root=False),
    # The root has it as well; nothing else of the controller is there.
    File("memory.stat", _parse_stat_v2),
)


def stats_v2(  # noqa: PLR0913 - one argument for each row of FILES_V2
    current: int | None,
    peak: int | None,
    maximum: int | float | None,
    high: int | float | None,
    low: int | float | None,
    minimum: int | float | None,
    oom_group: bool | None,  # noqa: FBT001 - as above
    swap_current: int | None,
    swap_peak: int | None,
    swap_max: int | float | None,
    swap_high: int | float | None,
    swap_events: SwapEvents | None,
    events: MemoryEvents | None,
    events_local: MemoryEvents | None,
    stat: MemoryStat | None,
) -> MemoryStats:
    """Make one object of the files in ``FILES_V2``."""
    stat = stat or MemoryStat()
    is_root = current is None and maximum is None and events is None
    if is_root and stat.anon_bytes is not None and stat.file_bytes is not None:
        # It has no memory.current; these two are nearly all that a node's processes hold.
        current = stat.anon_bytes + stat.file_bytes
    events = events or MemoryEvents()
    return MemoryStats(
        usage_bytes=current,
        peak_bytes=peak,
        limit_bytes=maximum,
        high_bytes=high,
        low_bytes=low,
        min_bytes=minimum,
        limit_hits_total=events.max,
        swap_usage_bytes=swap_current,
        swap_peak_bytes=swap_peak,
        swap_limit_bytes=swap_max,
        swap_high_bytes=swap_high,
        kernel_usage_bytes=stat.kernel_bytes,
        oom_group=oom_group,
        stat=stat,
        events=events,
        events_local=events_local or MemoryEvents(),
        swap_events=swap_events or SwapEvents(),
    )


def keeps_no_peak(absent: Iterable[Fault]) -> bool:
    """Whether a cgroup has a usage and no peak of it, by the files that it does not have: v2 before 5.19."""
    names = {fault.file.name for fault in absent}
    return _PEAK in names and _CURRENT not in names


_V1: dict[str, Any] = {"controller": "memory"}
_KERNEL_ACCOUNTING = "kernel memory accounting (CONFIG_MEMCG_KMEM, not cgroup.memory=nokmem)"

FILES_V1 = (
    File("memory.usage_in_bytes", integer, pulse=True, **_V1),
    File("memory.max_usage_in_bytes", integer, **_V1),
    File("memory.limit_in_bytes", parse_limit_v1, setting=True, **_V1),
    File("memory.soft_limit_in_bytes", parse_limit_v1, setting=True, **_V1),
    File("memory.failcnt", integer, **_V1),
    File("memory.memsw.usage_in_bytes", integer, needs=_SWAP_ACCOUNTING, **_V1),
    File("memory.memsw.limit_in_bytes", parse_limit_v1, setting=True, needs=_SWAP_ACCOUNTING, **_V1),
    File("memory.kmem.usage_in_bytes", integer, needs=_KERNEL_ACCOUNTING, **_V1),
    File("memory.oom_control", _parse_oom_control, **_V1),
    File("memory.stat", _parse_stat_v1, **_V1),
)


def stats_v1(  # noqa: PLR0913 - one argument for each row of FILES_V1
    usage: int | None,
    max_usage: int | None,
    limit_bytes: int | float | None,
    soft_limit: int | float | None,
    failcnt: int | None,
    memsw_usage: int | None,
    memsw_limit: int | float | None,
    kmem_usage: int | None,
    oom_control: OomControl | None,
    stat: MemoryStat | None,
) -> MemoryStats:
    """Make one object of the files in ``FILES_V1``."""
    stat = stat or MemoryStat()
    oom_control = oom_control or OomControl()
    return MemoryStats(
        usage_bytes=usage,
        peak_bytes=max_usage,
        limit_bytes=limit_bytes,
        soft_limit_bytes=soft_limit,
        limit_hits_total=failcnt,
        swap_usage_bytes=stat.swap_bytes,
        memory_and_swap_usage_bytes=memsw_usage,
        memory_and_swap_limit_bytes=memsw_limit,
        kernel_usage_bytes=kmem_usage,
        oom_kill_disabled=_flag(oom_control.oom_kill_disable),
        under_oom=_flag(oom_control.under_oom),
        stat=stat,
        events_local=MemoryEvents(oom_kill=oom_control.oom_kill),
    )


def _flag(value: int | None) -> bool | None:
    return None if value is None else value != 0
