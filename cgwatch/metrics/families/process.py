"""Processes and threads."""

from __future__ import annotations

from operator import attrgetter

from cgwatch.metrics.families.base import Family, Part, Type, bounded

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
)
