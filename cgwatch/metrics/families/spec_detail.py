"""What bounds a container beyond cAdvisor. A bound that is not set has no series."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.metrics.families.base import Family, Number, Part, Type

_MICROSECONDS = 1_000_000

Value = Callable[[Any], Number | None]


def _limit(field: str) -> Value:
    """Return the limit; none at all is ``math.inf``."""
    get = attrgetter(field)

    def value(part: Any) -> Number | None:  # noqa: ANN401 - the part of a sample
        found: Number | None = get(part)
        return None if found == math.inf else found

    return value


def _protection(field: str) -> Value:
    """Return what is protected: none at all is 0, all of it is ``math.inf``."""
    get = attrgetter(field)
    return lambda memory: get(memory) or None


def _flag(field: str) -> Value:
    get = attrgetter(field)

    def value(part: Any) -> Number | None:  # noqa: ANN401 - the part of a sample
        found: bool | None = get(part)
        return None if found is None else int(found)

    return value


def _burst(cpu: CpuStats) -> Number | None:
    return cpu.burst_microseconds / _MICROSECONDS if cpu.burst_microseconds else None


def _spec(what: str, help_text: str, part: Part, source: str, value: Value, *, absent: str) -> Family:
    return Family(
        f"container_spec_{what}", Type.GAUGE, help_text, "spec", part, source, value=value, absent=absent
    )


_NOT_SET = "without one; on cgroup v1"
FAMILIES = (
    _spec(
        "memory_high_bytes",
        "Memory usage above which tasks are held back to reclaim, in bytes.",
        Part.MEMORY,
        "memory.high",
        _limit("high_bytes"),
        absent=_NOT_SET,
    ),
    _spec(
        "memory_low_bytes",
        "Memory that is reclaimed only when nothing unprotected is left, in bytes.",
        Part.MEMORY,
        "memory.low; inf stands for all of it",
        _protection("low_bytes"),
        absent=_NOT_SET,
    ),
    _spec(
        "memory_min_bytes",
        "Memory that is never reclaimed, in bytes.",
        Part.MEMORY,
        "memory.min; inf stands for all of it",
        _protection("min_bytes"),
        absent=_NOT_SET,
    ),
    _spec(
        "memory_swap_high_bytes",
        "Swap usage above which tasks are held back, in bytes.",
        Part.MEMORY,
        "memory.swap.high",
        _limit("swap_high_bytes"),
        absent=f"{_NOT_SET}; without swap accounting",
    ),
    _spec(
        "memory_oom_group",
        "Whether an OOM kill takes the whole container (1) or one process of it (0).",
        Part.MEMORY,
        "memory.oom.group",
        _flag("oom_group"),
        absent="on cgroup v1, and for the root of cgroup v2; before kernel 4.19",
    ),
    _spec(
        "cpu_weight",
        "Relative weight of the container's CPU time, in cpu.weight: 1 to 10000, 100 unless it was set.",
        Part.CPU,
        "cpu.weight",
        attrgetter("weight"),
        absent="on cgroup v1, for the root, and where the cpu controller is not enabled",
    ),
    _spec(
        "cpu_idle",
        "Whether the container runs only when nothing else wants to (1) or by its weight (0).",
        Part.CPU,
        "cpu.idle",
        _flag("idle"),
        absent="before kernel 5.15; on cgroup v2 for the root, and where the cpu controller is not enabled",
    ),
    _spec(
        "cpu_burst_seconds",
        "CPU time beyond its quota that the container may save up, in seconds.",
        Part.CPU,
        "cpu.max.burst; v1 cpu.cfs_burst_us",
        _burst,
        absent="without any; before kernel 5.14",
    ),
    _spec(
        "pids_limit",
        "Limit on the tasks (processes and threads) of the container.",
        Part.PIDS,
        "pids.max",
        _limit("limit"),
        absent="without one",
    ),
)
