"""Memory: usage, its breakdown, limits that were hit."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from cgwatch.cgroup.memory import MemoryStats
from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.model import Kind, Sample, Snapshot


def _swap(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    value = sample.memory.swap_usage_bytes if sample.memory else None
    host = snapshot.memory
    if (
        value is None
        and sample.container.owner.kind is Kind.ROOT
        and host
        and host.swap_total_bytes is not None
    ):
        value = host.swap_total_bytes - (host.swap_free_bytes or 0)
    yield "", value


def _failures(memory: MemoryStats, _snapshot: Snapshot) -> Iterable[Row]:
    stat = memory.stat
    for kind, own, whole in (
        ("pgfault", stat.own_page_faults_total, stat.page_faults_total),
        ("pgmajfault", stat.own_major_page_faults_total, stat.major_page_faults_total),
    ):
        # v2 has one number, with the descendants: cAdvisor shows it for both scopes.
        yield f'failure_type="{kind}",scope="container"', whole if own is None else own
        yield f'failure_type="{kind}",scope="hierarchy"', whole


def _memory(
    name: str, help_text: str, field: str, source: str, kind: Type = Type.GAUGE, absent: str = ""
) -> Family:
    return Family(
        name, kind, help_text, "memory", Part.MEMORY, source, value=attrgetter(field), absent=absent
    )


_V1, _ROOT_V2 = "on cgroup v1", "for the root of cgroup v2"
FAMILIES = (
    _memory(
        "container_memory_usage_bytes",
        "All memory charged to the container, page cache and kernel memory included, in bytes.",
        "usage_bytes",
        "memory.current (root: anon + file of memory.stat); v1 memory.usage_in_bytes",
    ),
    _memory(
        "container_memory_working_set_bytes",
        "Memory usage without the inactive page cache, in bytes: what the kubelet evicts by.",
        "working_set_bytes",
        "usage - inactive_file of memory.stat; v1 total_inactive_file",
    ),
    _memory(
        "container_memory_rss",
        "Anonymous memory (heap, stack), in bytes.",
        "stat.anon_bytes",
        "memory.stat anon; v1 total_rss",
    ),
    _memory(
        "container_memory_cache",
        "Page cache with tmpfs and shared memory, in bytes.",
        "stat.file_bytes",
        "memory.stat file; v1 total_cache",
    ),
    _memory(
        "container_memory_mapped_file",
        "Page cache that is mapped by processes, in bytes.",
        "stat.file_mapped_bytes",
        "memory.stat file_mapped; v1 total_mapped_file",
    ),
    Family(
        "container_memory_swap",
        Type.GAUGE,
        "Swap used, in bytes.",
        "memory",
        Part.SAMPLE,
        "memory.swap.current (root: /proc/meminfo); v1 memory.stat total_swap",
        rows=_swap,
        absent="without swap accounting",
    ),
    _memory(
        "container_memory_max_usage_bytes",
        "Highest memory usage so far, in bytes.",
        "peak_bytes",
        "memory.peak (before kernel 5.19 the highest of the samples since cgwatch first saw the cgroup);"
        " v1 memory.max_usage_in_bytes",
        absent=_ROOT_V2,
    ),
    _memory(
        "container_memory_failcnt",
        "How often the memory usage ran into the limit.",
        "limit_hits_total",
        "memory.events max; v1 memory.failcnt",
        Type.COUNTER,
        absent=_ROOT_V2,
    ),
    _memory(
        "container_memory_kernel_usage",
        "Kernel memory charged to the container, in bytes.",
        "kernel_usage_bytes",
        "memory.stat kernel; v1 memory.kmem.usage_in_bytes",
        absent="on cgroup v2 before kernel 5.18; without kernel memory accounting",
    ),
    _memory(
        "container_memory_total_active_file_bytes",
        "Page cache on the active list, in bytes.",
        "stat.active_file_bytes",
        "memory.stat active_file; v1 total_active_file",
    ),
    _memory(
        "container_memory_total_inactive_file_bytes",
        "Page cache on the inactive list, reclaimed first, in bytes.",
        "stat.inactive_file_bytes",
        "memory.stat inactive_file; v1 total_inactive_file",
    ),
    Family(
        "container_memory_failures_total",
        Type.COUNTER,
        "Page faults by type; a major one had to wait for I/O.",
        "memory",
        Part.MEMORY,
        "memory.stat pgfault, pgmajfault; v1 scope=hierarchy total_pgfault, total_pgmajfault",
        rows=_failures,
        labels=("failure_type", "scope"),
    ),
    _memory(
        "container_memory_events_high_total",
        "How often the usage went over memory.high and tasks were held back to reclaim.",
        "events.high",
        "memory.events high",
        Type.COUNTER,
        absent=f"{_V1}, and {_ROOT_V2}",
    ),
    _memory(
        "container_memory_events_max_total",
        "How often the usage was about to go over memory.max.",
        "limit_hits_total",
        "memory.events max; v1 memory.failcnt",
        Type.COUNTER,
        absent=_ROOT_V2,
    ),
    _memory(
        "container_memory_file_dirty_bytes",
        "Page cache that is waiting to be written back, in bytes.",
        "stat.file_dirty_bytes",
        "memory.stat file_dirty; v1 total_dirty",
    ),
    _memory(
        "container_memory_file_writeback_bytes",
        "Page cache that is being written back, in bytes.",
        "stat.file_writeback_bytes",
        "memory.stat file_writeback; v1 total_writeback",
    ),
    _memory(
        "container_memory_pgscan_total",
        "Pages that reclaim looked at.",
        "stat.scanned_pages_total",
        "memory.stat pgscan",
        Type.COUNTER,
        absent=_V1,
    ),
    _memory(
        "container_memory_pgsteal_total",
        "Pages that reclaim freed.",
        "stat.reclaimed_pages_total",
        "memory.stat pgsteal",
        Type.COUNTER,
        absent=_V1,
    ),
    _memory(
        "container_memory_workingset_refault_file_total",
        "Page cache pages read again soon after they were reclaimed.",
        "stat.refaulted_file_pages_total",
        "memory.stat workingset_refault_file; v1 total_workingset_refault_file",
        Type.COUNTER,
        absent="before kernel 5.9",
    ),
    _memory(
        "container_memory_workingset_refault_anon_total",
        "Anonymous pages read back soon after they were swapped out.",
        "stat.refaulted_anon_pages_total",
        "memory.stat workingset_refault_anon; v1 total_workingset_refault_anon",
        Type.COUNTER,
        absent="before kernel 5.9",
    ),
)
