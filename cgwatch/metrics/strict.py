"""cAdvisor's own values where cgwatch departs from them: ``metrics.strict_cadvisor``.

The catalogue stays as it is, and has no cost of it. Here are replacements of single rows; ``departures`` says
of each why it differs, and what is not to be had back. A new one: a row of ``_REPLACED``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from msgspec import structs

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.cgroup.shares import Formula, shares_of
from cgwatch.metrics.families.base import Family, Number, Part, Row, bounded
from cgwatch.model import Kind, Sample, Snapshot

Replace = Callable[[Family], Family]
Rows = Callable[[Any, Snapshot], Iterable[Row]]
OfSample = Callable[[Sample], Number | None]

_MICRO = 1_000_000


def as_cadvisor(families: Iterable[Family]) -> tuple[Family, ...]:
    """Return the same families, with cAdvisor's values where they can be had."""
    return tuple(_REPLACED[each.name](each) if each.name in _REPLACED else each for each in families)


def _is_v2(snapshot: Snapshot) -> bool:
    return snapshot.layout is Layout.V2  # on a hybrid node cAdvisor reads v1 alone


def _of_sample(family: Family) -> OfSample:
    """Read the family's value from a whole sample."""
    part_of, value = attrgetter(family.part), family.value

    def read(sample: Sample) -> Number | None:
        part = sample if family.part is Part.SAMPLE else part_of(sample)
        return None if part is None or value is None else value(part)

    return read


def _by_sample(family: Family, value: Callable[[Sample, Snapshot], Number | None]) -> Family:
    """Show one series for every cgroup, whatever its controllers."""
    return structs.replace(
        family,
        part=Part.SAMPLE,
        value=None,
        rows=lambda sample, snapshot: (("", value(sample, snapshot)),),
        reads=(str(family.part), *family.reads),
        absent="",
    )


def _zero(family: Family) -> Family:
    """0 where the kernel does not say."""
    read = _of_sample(family)
    return _by_sample(family, lambda sample, _snapshot: read(sample) or 0)


def _zero_on_v1(family: Family) -> Family:
    """0 on v1, too, which cAdvisor does not read it from."""
    read = _of_sample(family)
    return _by_sample(family, lambda sample, snapshot: (_is_v2(snapshot) and read(sample)) or 0)


def _zero_on_v2(family: Family) -> Family:
    read = _of_sample(family)
    return _by_sample(family, lambda sample, snapshot: 0 if _is_v2(snapshot) else read(sample) or 0)


def _with_rows(change: Callable[[Rows], Rows], *, absent: str = "") -> Replace:
    """Change the rows of a family that has some."""

    def replace(family: Family) -> Family:
        rows: Rows = family.rows or (lambda _part, _snapshot: ())
        return structs.replace(family, rows=change(rows), absent=absent or family.absent)

    return replace


def _valued(value: Callable[[Any], Number | None]) -> Replace:
    return lambda family: structs.replace(family, value=value, rows=None)


def _whole(rows: Rows) -> Rows:
    return lambda part, snapshot: [
        (more, None if value is None else int(value)) for more, value in rows(part, snapshot)
    ]


def _or_zero(rows: Rows) -> Rows:
    return lambda part, snapshot: [(more, value or 0) for more, value in rows(part, snapshot)]


def _or_zero_with_memory(rows: Rows) -> Rows:
    zero = _or_zero(rows)
    return lambda sample, snapshot: () if sample.memory is None else zero(sample, snapshot)


def _none_on_v2(rows: Rows) -> Rows:
    return lambda part, snapshot: () if _is_v2(snapshot) else rows(part, snapshot)


def _too_small_for_the_root(rows: Rows) -> Rows:
    """cAdvisor divides milliseconds of /proc/diskstats by 10^9."""

    def replaced(io: Any, snapshot: Snapshot) -> Iterable[Row]:  # noqa: ANN401 - a row's part
        root = snapshot.samples[0]
        is_root = root.io is io and root.container.owner.kind is Kind.ROOT
        return [
            (more, value / _MICRO if is_root and value is not None else value)
            for more, value in rows(io, snapshot)
        ]

    return replaced


_SWAPPED = {'udp_state="rxqueued"': 'udp_state="txqueued"', 'udp_state="txqueued"': 'udp_state="rxqueued"'}


def _swapped(rows: Rows) -> Rows:
    return lambda part, snapshot: [(_SWAPPED.get(more, more), value) for more, value in rows(part, snapshot)]


def _burst(family: Family) -> Family:
    value = family.value

    def rows(cpu: CpuStats, snapshot: Snapshot) -> Iterable[Row]:
        if cpu.quota_microseconds not in {None, math.inf}:
            yield "", (_is_v2(snapshot) and value and value(cpu)) or 0

    return structs.replace(family, value=None, rows=rows, absent="without a quota of its own")


def _peak(memory: MemoryStats) -> Number:
    return 0 if memory.peak_is_sampled else memory.peak_bytes or 0


def _own_failures(memory: MemoryStats, _snapshot: Snapshot) -> Iterable[Row]:
    stat = memory.stat
    for kind, own, whole in (
        ("pgfault", stat.own_page_faults_total, stat.page_faults_total),
        ("pgmajfault", stat.own_major_page_faults_total, stat.major_page_faults_total),
    ):
        for scope in ("container", "hierarchy"):
            yield f'failure_type="{kind}",scope="{scope}"', (whole if own is None else own) or 0


def _shares(sample: Sample) -> Number | None:
    cpu = sample.cpu
    if cpu is None:
        return None
    if cpu.shares is not None:
        return cpu.shares
    return shares_of(cpu.weight, Formula.LINEAR) if cpu.weight else 0


def _reservation(memory: MemoryStats) -> Number | None:
    return bounded(memory.soft_limit_bytes if memory.soft_limit_bytes is not None else memory.min_bytes or 0)


def _own_processes(sample: Sample) -> Number:
    return (sample.core.processes if sample.core else None) or 0


def _threads(family: Family) -> Family:
    """On v2 the root has no pids.current, and cAdvisor counts lines of a file: the processes."""
    read = _of_sample(family)

    def threads(sample: Sample, snapshot: Snapshot) -> Number:
        return read(sample) or (_own_processes(sample) if _is_v2(snapshot) and sample.pids is None else 0)

    return _by_sample(family, threads)


def _each(replace: Replace, prefix: str, *names: str) -> dict[str, Replace]:
    return {f"container_{prefix}{name}": replace for name in names}


_REPLACED: Mapping[str, Replace] = {
    **_each(_with_rows(_whole), "", "creation_time_seconds", "start_time_seconds"),
    **_each(_valued(lambda cpu: cpu.period_microseconds or 0), "spec_cpu_", "period"),
    **_each(_valued(_shares), "spec_cpu_", "shares"),
    **_each(_valued(_reservation), "spec_memory_", "reservation_limit_bytes"),
    **_each(_with_rows(_or_zero_with_memory), "spec_memory_", "swap_limit_bytes"),
    **_each(_burst, "cpu_cfs_burst_", "periods_total", "seconds_total"),
    **_each(_zero, "cpu_", "user_seconds_total", "system_seconds_total"),
    **_each(
        _zero,
        "memory_",
        *("usage_bytes", "working_set_bytes", "rss", "cache", "mapped_file"),
        *("total_active_file_bytes", "total_inactive_file_bytes", "migrate"),
        *("workingset_refault_file_total", "workingset_refault_anon_total"),
    ),
    **_each(
        _zero_on_v1,
        "memory_",
        *("events_high_total", "events_max_total", "file_dirty_bytes", "file_writeback_bytes"),
        *("pgscan_total", "pgsteal_total"),
    ),
    **_each(_zero_on_v2, "memory_", "failcnt", "kernel_usage"),
    **_each(lambda family: _zero(structs.replace(family, value=_peak)), "memory_", "max_usage_bytes"),
    **_each(_with_rows(_or_zero), "memory_", "swap"),
    **_each(_with_rows(lambda _rows: _own_failures), "memory_", "failures_total"),
    **_each(_with_rows(_none_on_v2), "memory_", "numa_pages"),
    **_each(_with_rows(_or_zero), "hugetlb_", "max_usage_bytes"),
    **_each(
        _zero_on_v1,
        "pressure_",
        *(
            f"{what}_{how}_seconds_total"
            for what in ("cpu", "memory", "io")
            for how in ("waiting", "stalled")
        ),
    ),
    **_each(
        _with_rows(_too_small_for_the_root),
        "fs_",
        *("read_seconds_total", "write_seconds_total"),
        *("io_time_seconds_total", "io_time_weighted_seconds_total"),
    ),
    **_each(_valued(_own_processes), "", "processes"),
    **_each(_threads, "", "threads"),
    **_each(_zero, "", "threads_max"),
    **_each(_with_rows(_swapped), "network_", "udp_usage_total", "udp6_usage_total"),
}

REPLACED = frozenset(_REPLACED)
"""The families that cAdvisor's values are to be had of."""
