"""The cpu controller; on v1 cpu and cpuacct together.

v2: Documentation/admin-guide/cgroup-v2.rst, "CPU". v1: Documentation/scheduler/sched-bwc.rst and
Documentation/admin-guide/cgroup-v1/cpuacct.rst.
"""

from __future__ import annotations

import math
import os
from typing import Annotated, Any

from msgspec import Meta, Struct

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import FormatError, boolean, flat_keyed, integer, integers, limit

_MICROSECONDS = 1_000_000
_NANOSECONDS = 1_000_000_000

_Time = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""A number of 64 bits, so that it can be turned into seconds."""


class CpuStats(Struct, frozen=True, gc=False):
    """CPU time of one cgroup and all below it, and what bounds it.

    Quota, period and burst keep the kernel's microseconds: they are settings, and written back as such.
    """

    usage_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    usage_seconds_by_cpu: tuple[float, ...] | None = None
    """v1 only, in the order of the CPU numbers."""
    periods_total: int | None = None
    """Enforcement periods that have elapsed under a quota."""
    throttled_periods_total: int | None = None
    throttled_seconds: float | None = None
    own_throttled_seconds: float | None = None
    """Time throttled by an ancestor's quota or its own while something here was ready to run, summed over
    CPUs (cpu.stat.local, since 6.6 on v2 and 6.18 on v1)."""
    bursts_total: int | None = None
    """Periods in which time saved up earlier was used; since 5.16, on v1 as well."""
    burst_seconds: float | None = None
    """Since 5.16, on v1 as well."""
    quota_microseconds: int | float | None = None
    """CPU time for each period; ``math.inf``: no quota."""
    period_microseconds: int | None = None
    burst_microseconds: int | None = None
    weight: int | None = None
    """v2: 1 to 10000, 100 is the kernel's default."""
    shares: int | None = None
    """v1: 2 to 262144, 1024 is the kernel's default."""
    idle: bool | None = None
    """SCHED_IDLE for the whole cgroup; since 5.15."""


def throttled_ratio(before: CpuStats, after: CpuStats) -> float | None:
    """Return the share of the quota's periods between two readings of one cgroup in which it was used up.

    ``None`` without a quota, and where the counters are not there or went down.
    """
    counts = (
        *(before.periods_total, after.periods_total),
        *(before.throttled_periods_total, after.throttled_periods_total),
    )
    known = [count for count in counts if count is not None]
    if len(known) < len(counts) or known[1] < known[0] or known[3] < known[2]:
        return None
    if known[1] == known[0]:  # they do not elapse while nothing runs, nor without a quota
        return None if after.quota_microseconds in {None, math.inf} else 0.0
    return (known[3] - known[2]) / (known[1] - known[0])


class _CpuStatV2(Struct, frozen=True, gc=False):
    usage_usec: _Time | None = None
    user_usec: _Time | None = None
    system_usec: _Time | None = None
    nr_periods: int | None = None
    nr_throttled: int | None = None
    throttled_usec: _Time | None = None
    nr_bursts: int | None = None
    burst_usec: _Time | None = None


class _CpuStatV1(Struct, frozen=True, gc=False):
    nr_periods: int | None = None
    nr_throttled: int | None = None
    throttled_time: _Time | None = None
    nr_bursts: int | None = None
    burst_time: _Time | None = None


class _CpuStatLocal(Struct, frozen=True, gc=False):
    throttled_usec: _Time | None = None
    throttled_time: _Time | None = None


class _CpuacctStat(Struct, frozen=True, gc=False):
    user: _Time | None = None
    system: _Time | None = None


class _CpuMax(Struct, frozen=True, gc=False):
    quota_microseconds: int | float
    period_microseconds: int


def parse_cpu_max(raw: bytes) -> _CpuMax:
    """``cpu.max``: ``QUOTA PERIOD`` in microseconds, the quota may be ``max``."""
    parts = raw.split()
    if len(parts) != 2:  # noqa: PLR2004 - the two fields of the format
        raise FormatError("QUOTA PERIOD", raw)
    return _CpuMax(limit(parts[0]), integer(parts[1]))


def parse_quota_v1(raw: bytes) -> int | float:
    """``cpu.cfs_quota_us``: microseconds for each period; any negative value is no quota."""
    value = integer(raw)
    return math.inf if value < 0 else value


def _seconds(value: int | None, unit: int) -> float | None:
    return None if value is None else value / unit


_parse_stat_v2 = flat_keyed(_CpuStatV2, {name: name for name in _CpuStatV2.__struct_fields__})
_parse_stat_v1 = flat_keyed(_CpuStatV1, {name: name for name in _CpuStatV1.__struct_fields__})
_parse_stat_local = flat_keyed(_CpuStatLocal, {name: name for name in _CpuStatLocal.__struct_fields__})
_parse_cpuacct_stat = flat_keyed(_CpuacctStat, {"user": "user", "system": "system"})

_BANDWIDTH = "CPU bandwidth control (CONFIG_CFS_BANDWIDTH)"

FILES_V2 = (
    # Time is accounted in every cgroup, also where the cpu controller is not enabled (since 4.15).
    File("cpu.stat", _parse_stat_v2, pulse=True),
    File("cpu.stat.local", _parse_stat_local, since=(6, 6), on_root=False),
    File("cpu.max", parse_cpu_max, setting=True, on_root=False, needs=_BANDWIDTH),
    File("cpu.max.burst", integer, setting=True, since=(5, 14), on_root=False, needs=_BANDWIDTH),
    File("cpu.weight", integer, setting=True, on_root=False),
    File("cpu.idle", boolean, setting=True, since=(5, 15), on_root=False),
)


def stats_v2(
    stat: _CpuStatV2 | None,
    local: _CpuStatLocal | None,
    maximum: _CpuMax | None,
    burst: int | None,
    weight: int | None,
    idle: bool | None,  # noqa: FBT001 - as above
) -> CpuStats:
    """Make one object of the files in ``FILES_V2``."""
    stat = stat or _CpuStatV2()
    return CpuStats(
        usage_seconds=_seconds(stat.usage_usec, _MICROSECONDS),
        user_seconds=_seconds(stat.user_usec, _MICROSECONDS),
        system_seconds=_seconds(stat.system_usec, _MICROSECONDS),
        periods_total=stat.nr_periods,
        throttled_periods_total=stat.nr_throttled,
        throttled_seconds=_seconds(stat.throttled_usec, _MICROSECONDS),
        own_throttled_seconds=_seconds(local.throttled_usec, _MICROSECONDS) if local else None,
        bursts_total=stat.nr_bursts,
        burst_seconds=_seconds(stat.burst_usec, _MICROSECONDS),
        quota_microseconds=maximum.quota_microseconds if maximum else None,
        period_microseconds=maximum.period_microseconds if maximum else None,
        burst_microseconds=burst,
        weight=weight,
        idle=idle,
    )


_CPU: dict[str, Any] = {"controller": "cpu"}
_CPUACCT: dict[str, Any] = {"controller": "cpuacct"}

# cpuacct.stat counts in USER_HZ, 100 on every architecture but alpha and ia64.
_USER_HZ = os.sysconf("SC_CLK_TCK")

FILES_V1 = (
    File("cpuacct.usage", integer, pulse=True, **_CPUACCT),
    File("cpuacct.usage_percpu", integers, **_CPUACCT),
    File("cpuacct.stat", _parse_cpuacct_stat, **_CPUACCT),
    File("cpu.stat", _parse_stat_v1, needs=_BANDWIDTH, **_CPU),
    File("cpu.stat.local", _parse_stat_local, since=(6, 18), needs=_BANDWIDTH, **_CPU),
    File("cpu.cfs_quota_us", parse_quota_v1, setting=True, needs=_BANDWIDTH, **_CPU),
    File("cpu.cfs_period_us", integer, setting=True, needs=_BANDWIDTH, **_CPU),
    File("cpu.cfs_burst_us", integer, setting=True, since=(5, 14), needs=_BANDWIDTH, **_CPU),
    File("cpu.shares", integer, setting=True, **_CPU),
    File("cpu.idle", boolean, setting=True, since=(5, 15), **_CPU),
)


def stats_v1(  # noqa: PLR0913 - one argument for each row of FILES_V1
    usage: int | None,
    by_cpu: tuple[int, ...] | None,
    time: _CpuacctStat | None,
    stat: _CpuStatV1 | None,
    local: _CpuStatLocal | None,
    quota: int | float | None,
    period: int | None,
    burst: int | None,
    shares: int | None,
    idle: bool | None,  # noqa: FBT001 - as above
) -> CpuStats:
    """Make one object of the files in ``FILES_V1``."""
    stat = stat or _CpuStatV1()
    time = time or _CpuacctStat()
    return CpuStats(
        usage_seconds=_seconds(usage, _NANOSECONDS),
        user_seconds=_seconds(time.user, _USER_HZ),
        system_seconds=_seconds(time.system, _USER_HZ),
        usage_seconds_by_cpu=None if by_cpu is None else tuple(value / _NANOSECONDS for value in by_cpu),
        periods_total=stat.nr_periods,
        throttled_periods_total=stat.nr_throttled,
        throttled_seconds=_seconds(stat.throttled_time, _NANOSECONDS),
        own_throttled_seconds=_seconds(local.throttled_time, _NANOSECONDS) if local else None,
        bursts_total=stat.nr_bursts,
        burst_seconds=_seconds(stat.burst_time, _NANOSECONDS),
        quota_microseconds=quota,
        period_microseconds=period,
        burst_microseconds=burst,
        shares=shares,
        idle=idle,
    )
