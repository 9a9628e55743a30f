"""CPU time, and time under a quota."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import attrgetter

from msgspec import structs

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.model import Snapshot


def _usage_by_cpu(cpu: CpuStats, _snapshot: Snapshot) -> Iterable[Row]:
    """cAdvisor's rule: by CPU where the kernel tells (v1), and then no total; without CPUs never used."""
    if cpu.usage_seconds_by_cpu is None:
        return _usage_total(cpu, _snapshot)
    return [(_cpu_label(n), value) for n, value in enumerate(cpu.usage_seconds_by_cpu) if value]


def _usage_total(cpu: CpuStats, _snapshot: Snapshot) -> Iterable[Row]:
    return [('cpu="total"', cpu.usage_seconds)] if cpu.usage_seconds else []


def _cpu_label(number: int) -> str:
    return f'cpu="cpu{number:02d}"'


def _under_quota(field: str) -> Callable[[CpuStats], Number | None]:
    get = attrgetter(field)

    def value(cpu: CpuStats) -> Number | None:
        if cpu.quota_microseconds is None or cpu.quota_microseconds == math.inf:
            return None
        found: Number | None = get(cpu)
        return found

    return value


def _cfs(name: str, help_text: str, field: str, source: str, absent: str = "") -> Family:
    return Family(
        name,
        Type.COUNTER,
        help_text,
        "cpu",
        Part.CPU,
        source,
        value=_under_quota(field),
        absent="without a quota of its own" + absent,
    )


USAGE = Family(
    "container_cpu_usage_seconds_total",
    Type.COUNTER,
    "CPU time used, in seconds.",
    "cpu",
    Part.CPU,
    "cpu.stat usage_usec; v1 cpuacct.usage_percpu, or cpuacct.usage with the group percpu off",
    rows=_usage_by_cpu,
    labels=("cpu",),
    absent="before any CPU time was used",
)
USAGE_TOTAL = structs.replace(USAGE, rows=_usage_total)

FAMILIES = (
    USAGE,
    Family(
        "container_cpu_user_seconds_total",
        Type.COUNTER,
        "CPU time used in user mode, in seconds.",
        "cpu",
        Part.CPU,
        "cpu.stat user_usec; v1 cpuacct.stat user",
        value=attrgetter("user_seconds"),
    ),
    Family(
        "container_cpu_system_seconds_total",
        Type.COUNTER,
        "CPU time used in the kernel, in seconds.",
        "cpu",
        Part.CPU,
        "cpu.stat system_usec; v1 cpuacct.stat system",
        value=attrgetter("system_seconds"),
    ),
    _cfs(
        "container_cpu_cfs_periods_total",
        "Periods of the CPU quota in which the container wanted to run.",
        "periods_total",
        "cpu.stat nr_periods",
    ),
    _cfs(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the CPU quota was used up.",
        "throttled_periods_total",
        "cpu.stat nr_throttled",
    ),
    _cfs(
        "container_cpu_cfs_throttled_seconds_total",
        "Time held up by the CPU quota, in seconds, summed over CPUs.",
        "throttled_seconds",
        "cpu.stat throttled_usec; v1 throttled_time",
    ),
    _cfs(
        "container_cpu_cfs_burst_periods_total",
        "Periods in which CPU time saved up earlier was used.",
        "bursts_total",
        "cpu.stat nr_bursts",
        "; before kernel 5.16",
    ),
    _cfs(
        "container_cpu_cfs_burst_seconds_total",
        "CPU time used beyond the quota thanks to bursts, in seconds.",
        "burst_seconds",
        "cpu.stat burst_usec; v1 burst_time",
        "; before kernel 5.16",
    ),
)
