"""What tasks are doing, and load averages of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.model import Snapshot, Tasks

_SOURCE = "/proc/PID/task/TID/stat, of the cgroup and all below it"
_ABSENT = (
    "where the agent may not look at one of the processes, or its /proc has other pids than cgroup files"
)


def _average(name: str, help_text: str, get: Callable[[Tasks], float]) -> Family:
    return Family(
        f"container_cpu_load{name}_average_10s",
        Type.GAUGE,
        help_text,
        "cpuLoad",
        Part.TASKS,
        _SOURCE,
        value=lambda tasks: int(get(tasks) * 1000),
        absent=_ABSENT,
    )


def _by_state(tasks: Tasks, _snapshot: Snapshot) -> Iterable[Row]:
    states = tasks.states
    return [
        ('state="sleeping"', states.sleeping),
        ('state="running"', states.running),
        ('state="stopped"', states.stopped),
        ('state="uninterruptible"', states.uninterruptible),
    ]


FAMILIES = (
    _average(
        "",
        "Thousandths of a task that ran or waited for a CPU, on average over some 10 seconds.",
        lambda tasks: tasks.running_load,
    ),
    _average(
        "_d",
        "Thousandths of a task in uninterruptible sleep, on average over some 10 seconds.",
        lambda tasks: tasks.uninterruptible_load,
    ),
    Family(
        "container_tasks_state",
        Type.GAUGE,
        "Tasks by what they are doing, nested cgroups included; of one cgroup the first 10000.",
        "cpuLoad",
        Part.TASKS,
        _SOURCE,
        rows=_by_state,
        labels=("state",),
        absent=f"{_ABSENT}; no state iowaiting: the kernel prints it nowhere, see io.pressure",
    ),
)
