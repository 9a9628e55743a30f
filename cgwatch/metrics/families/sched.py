"""How long processes ran, and how long they waited for a CPU."""

from __future__ import annotations

from operator import attrgetter

from cgwatch.metrics.families.base import Family, Part, Type


def _schedstat(name: str, help_text: str, field: str, column: str) -> Family:
    return Family(
        f"container_cpu_schedstat_{name}_total",
        Type.COUNTER,
        help_text,
        "sched",
        Part.SCHED,
        f"/proc/PID/schedstat {column}, of the leading threads, with the processes that have ended",
        value=attrgetter(field),
        absent="where the agent may not look at one of the processes, its /proc has other pids than cgroup "
        "files, or the kernel is built without CONFIG_SCHED_INFO",
    )


FAMILIES = (
    _schedstat("run_seconds", "Time that processes ran on a CPU, in seconds.", "run_seconds", "column 1"),
    _schedstat(
        "runqueue_seconds",
        "Time that processes were ready to run and waited for a CPU, in seconds.",
        "runqueue_seconds",
        "column 2",
    ),
    _schedstat("run_periods", "Times that processes were given a CPU.", "run_periods_total", "column 3"),
)
