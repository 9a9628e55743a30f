"""Which CPUs and memory nodes a container may use."""

from __future__ import annotations

from operator import attrgetter

from cgwatch.cgroup.cpuset import CpusetStats
from cgwatch.metrics.families.base import Family, Number, Part, Type


def _memory_migrate(cpuset: CpusetStats) -> Number | None:
    return None if cpuset.memory_migrate is None else int(cpuset.memory_migrate)


FAMILIES = (
    Family(
        "container_memory_migrate",
        Type.GAUGE,
        "Whether memory moves along (1) when the container's memory nodes are changed.",
        "cpuset",
        Part.CPUSET,
        "v1 cpuset.memory_migrate",
        value=_memory_migrate,
        absent="on cgroup v2, where it is no choice",
    ),
    Family(
        "container_spec_cpuset_cpus",
        Type.GAUGE,
        "CPUs that the container may use, how many.",
        "cpuset",
        Part.CPUSET,
        "cpuset.cpus.effective; v1 cpuset.effective_cpus",
        value=attrgetter("cpus"),
        absent="on cgroup v1 before kernel 3.17",
    ),
    Family(
        "container_spec_cpuset_memory_nodes",
        Type.GAUGE,
        "Memory nodes that the container may use, how many.",
        "cpuset",
        Part.CPUSET,
        "cpuset.mems.effective; v1 cpuset.effective_mems",
        value=attrgetter("memory_nodes"),
        absent="on cgroup v1 before kernel 3.17",
    ),
)
