"""What bounds a container: quota, shares, memory limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import attrgetter

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.metrics.families.base import Family, Number, Part, Row, Type, bounded
from cgwatch.metrics.shares import shown_shares
from cgwatch.model import Kind, Sample, Snapshot


def _quota(cpu: CpuStats) -> Number | None:
    return None if cpu.quota_microseconds == math.inf else cpu.quota_microseconds


def _shares(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    if sample.cpu is not None:
        yield "", shown_shares(sample, sample.cpu, snapshot.formulas)


def _memory_limit(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    limit = sample.memory.limit_bytes if sample.memory else None
    yield "", _or_the_machines(limit, sample, snapshot.machine.memory_bytes if snapshot.machine else None)


def _swap_limit(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    memory = sample.memory or MemoryStats()
    limit = memory.memory_and_swap_limit_bytes
    limit = memory.swap_limit_bytes if limit is None else limit
    yield "", _or_the_machines(limit, sample, snapshot.machine.swap_bytes if snapshot.machine else None)


def _or_the_machines(limit: Number | None, sample: Sample, whole: int | None) -> Number | None:
    """Show the machine's for the root, unless it is a cgroup namespace's root that has a limit."""
    if sample.container.owner.kind is Kind.ROOT and limit in (None, math.inf):
        return whole
    return bounded(limit)


def _reservation(memory: MemoryStats) -> Number | None:
    return bounded(memory.soft_limit_bytes if memory.soft_limit_bytes is not None else memory.low_bytes)


_ROOT_V2 = "for the root of cgroup v2"
_NO_CPU_CONTROLLER = "on cgroup v2 for the root, and where the cpu controller is not enabled"
FAMILIES = (
    Family(
        "container_spec_cpu_period",
        Type.GAUGE,
        "Period of the CPU quota, in microseconds.",
        "spec",
        Part.CPU,
        "cpu.max; v1 cpu.cfs_period_us (microseconds)",
        value=attrgetter("period_microseconds"),
        absent=_NO_CPU_CONTROLLER,
    ),
    Family(
        "container_spec_cpu_quota",
        Type.GAUGE,
        "CPU time that the container may use in each period, in microseconds.",
        "spec",
        Part.CPU,
        "cpu.max; v1 cpu.cfs_quota_us (microseconds)",
        value=_quota,
        absent="without a quota",
    ),
    Family(
        "container_spec_cpu_shares",
        Type.GAUGE,
        "Relative weight of the container's CPU time, in cpu.shares.",
        "spec",
        Part.SAMPLE,
        "cpu.weight by the runtime's formula, exact where Docker's API or a guaranteed pod's quota tells;"
        " v1 cpu.shares",
        rows=_shares,
        absent=_NO_CPU_CONTROLLER,
    ),
    Family(
        "container_spec_memory_limit_bytes",
        Type.GAUGE,
        "Memory limit in bytes; 0 stands for none.",
        "spec",
        Part.SAMPLE,
        "memory.max; v1 memory.limit_in_bytes; the machine's memory for the root; 0 without a limit",
        rows=_memory_limit,
        absent="without the memory controller",
    ),
    Family(
        "container_spec_memory_swap_limit_bytes",
        Type.GAUGE,
        "Swap limit in bytes (v1: of memory and swap together); 0 stands for none, on v2 for no swap, too.",
        "spec",
        Part.SAMPLE,
        "memory.swap.max; v1 memory.memsw.limit_in_bytes (memory and swap); the machine's swap for the root; "
        "0 without a limit",
        rows=_swap_limit,
        absent="without swap accounting",
    ),
    Family(
        "container_spec_memory_reservation_limit_bytes",
        Type.GAUGE,
        "Memory that is kept for the container when the node runs short, in bytes; 0 stands for none.",
        "spec",
        Part.MEMORY,
        "memory.low; v1 memory.soft_limit_in_bytes; 0 without one",
        value=_reservation,
        absent=_ROOT_V2,
    ),
)
