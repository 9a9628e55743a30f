"""Processes, threads, open files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from operator import attrgetter

from cgwatch.metrics.families.base import Family, Part, Row, Type, bounded
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot
from cgwatch.proc.limits import ResourceLimit

_NOT_PERMITTED = (
    "where the agent may not look at one of the processes, or its /proc has other pids than cgroup files"
)


def _soft_limits(limits: Mapping[str, ResourceLimit], _snapshot: Snapshot) -> Iterable[Row]:
    return [
        (label("ulimit", name), -1 if limit.soft == math.inf else limit.soft)
        for name, limit in limits.items()
    ]


FAMILIES = (
    Family(
        "container_processes",
        Type.GAUGE,
        "Processes in the container, nested cgroups included.",
        "process",
        Part.SAMPLE,
        "cgroup.procs, of the cgroup and all below it",
        value=attrgetter("processes"),
        absent="for a threaded cgroup",
    ),
    Family(
        "container_threads",
        Type.GAUGE,
        "Threads in the container, nested cgroups included.",
        "process",
        Part.PIDS,
        "pids.current",
        value=attrgetter("current"),
        absent="without the pids controller, and for the root",
    ),
    Family(
        "container_threads_max",
        Type.GAUGE,
        "Limit on the threads of the container; 0 stands for none.",
        "process",
        Part.PIDS,
        "pids.max",
        value=lambda pids: bounded(pids.limit),
        absent="without the pids controller, and for the root",
    ),
    Family(
        "container_file_descriptors",
        Type.GAUGE,
        "Open files of the processes in the container, nested cgroups included.",
        "process",
        Part.OPEN_FILES,
        "/proc/PID/fd, of the cgroup and all below it",
        value=attrgetter("open_files"),
        absent=_NOT_PERMITTED,
    ),
    Family(
        "container_sockets",
        Type.GAUGE,
        "Open files that are sockets, nested cgroups included; of one cgroup the first 10000 are looked at.",
        "process",
        Part.OPEN_FILES,
        "/proc/PID/fd/* socket:[...], of the cgroup and all below it",
        value=attrgetter("sockets"),
        absent=_NOT_PERMITTED,
    ),
    Family(
        "container_ulimits_soft",
        Type.GAUGE,
        "Soft limit on the open files of the container's init process; -1 stands for none.",
        "process",
        Part.LIMITS,
        "/proc/PID/limits Max open files",
        rows=_soft_limits,
        labels=("ulimit",),
        absent="where no process is known",
    ),
)
