"""CPU time withheld by a quota that is not the container's own.

A quota holds back everything below its cgroup, and the kernel counts it there alone: the numbers of a
container in a pod that is throttled stay at 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple, TypeVar

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.model import Sample, Snapshot

Count = TypeVar("Count", int, float)


class Throttling(NamedTuple):
    """Of the quotas of some cgroups together; ``None`` where one of them does not say."""

    periods: int | None = 0
    throttled_periods: int | None = 0
    throttled_seconds: float | None = 0.0

    def plus(self, cpu: CpuStats) -> Throttling:
        """Return the sum with one more quota."""
        return Throttling(
            _sum(self.periods, cpu.periods_total),
            _sum(self.throttled_periods, cpu.throttled_periods_total),
            _sum(self.throttled_seconds, cpu.throttled_seconds),
        )


def _sum(one: Count | None, other: Count | None) -> Count | None:
    return None if one is None or other is None else one + other


class _Moment:
    """A snapshot as the key of a cache: by identity, since comparing all that is in it takes long."""

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Moment) and other.snapshot is self.snapshot

    def __hash__(self) -> int:
        return id(self.snapshot)


@functools.lru_cache(maxsize=1)  # every container of a page asks about the same snapshot
def _by_path(moment: _Moment) -> Mapping[str, Throttling]:
    return throttling_above(moment.snapshot.samples)


def throttling_above(samples: Iterable[Sample]) -> dict[str, Throttling]:
    """Return by path what the quotas above a cgroup withheld; without one above, it is not in there.

    ``samples`` are ordered by path, as in a snapshot: every cgroup comes before what is nested in it.
    """
    above: dict[str, Throttling] = {}
    below: dict[str, Throttling] = {}
    for sample in samples:
        path, cpu = sample.container.cgroup.path, sample.cpu
        found = below.get(path.rpartition("/")[0] or "/") if path != "/" else None
        if found is not None:
            above[path] = below[path] = found
        if cpu is not None and cpu.quota_microseconds not in {None, math.inf}:
            below[path] = (found or Throttling()).plus(cpu)
    return above


def _of_ancestors(name: str, help_text: str, field: str, source: str) -> Family:
    get: Callable[[Throttling], Number | None] = attrgetter(field)

    def rows(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
        found = _by_path(_Moment(snapshot)).get(sample.container.cgroup.path)
        return () if found is None else (("", get(found)),)

    return Family(
        f"container_cpu_ancestor_{name}_total",
        Type.COUNTER,
        help_text,
        "cpu",
        Part.SAMPLE,
        f"cpu.stat {source}, summed over the cgroups above that have a quota",
        rows=rows,
        volatile=True,
        absent="without a cgroup above that has a quota",
    )


FAMILIES = (
    Family(
        "container_cpu_local_throttled_seconds_total",
        Type.COUNTER,
        "Time in which the container was ready to run and held up by its CPU quota or one above it, in"
        " seconds, summed over CPUs.",
        "cpu",
        Part.CPU,
        "cpu.stat.local throttled_usec; v1 throttled_time",
        value=attrgetter("own_throttled_seconds"),
        absent="before kernel 6.6, on cgroup v1 before 6.18; for the root of cgroup v2",
    ),
    _of_ancestors(
        "periods",
        "Periods of the CPU quotas above the container, whoever wanted to run.",
        "periods",
        "nr_periods",
    ),
    _of_ancestors(
        "throttled_periods",
        "Periods in which a CPU quota above the container was used up, by whomever it is shared with.",
        "throttled_periods",
        "nr_throttled",
    ),
    _of_ancestors(
        "throttled_seconds",
        "Time held up by the CPU quotas above the container, in seconds, summed over CPUs: of all that share"
        " them, so for the container itself it is an upper bound.",
        "throttled_seconds",
        "throttled_usec (v1 throttled_time)",
    ),
)
