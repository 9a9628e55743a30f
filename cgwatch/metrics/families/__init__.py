"""The catalogue: every container and machine metric, its name, type, help and where its value comes from.

Names, types and labels are cAdvisor's (v0.60), so that the queries of its users keep working. A value that
the kernel did not give is an absent series, never a made-up zero.

A new metric is one row in its group's module; the page, ``cgwatch metrics --list`` and the tests follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from cgwatch.metrics.families import (
    always,
    cgroup,
    cpu,
    cpuset,
    disk,
    filesystem,
    hugetlb,
    load,
    machine,
    machine_pressure,
    memory,
    memory_detail,
    network,
    numa,
    oom,
    pids,
    pressure,
    pressure_average,
    process,
    sched,
    sockets,
    spec,
    spec_detail,
    spec_io,
    state,
    throttling,
    topology,
)
from cgwatch.metrics.families.base import Family

FAMILIES: tuple[Family, ...] = (
    *always.FAMILIES,
    *spec.FAMILIES,
    *spec_detail.FAMILIES,
    *spec_io.FAMILIES,
    *cpu.FAMILIES,
    *throttling.FAMILIES,
    *memory.FAMILIES,
    *memory_detail.FAMILIES,
    *oom.FAMILIES,
    *disk.FAMILIES,
    *filesystem.FAMILIES,
    *network.FAMILIES,
    *pressure.FAMILIES,
    *pressure_average.FAMILIES,
    *process.FAMILIES,
    *load.FAMILIES,
    *sched.FAMILIES,
    *sockets.FAMILIES,
    *pids.FAMILIES,
    *cgroup.FAMILIES,
    *state.FAMILIES,
    *hugetlb.FAMILIES,
    *cpuset.FAMILIES,
    *numa.FAMILIES,
    *machine.FAMILIES,
    *machine_pressure.FAMILIES,
    *topology.FAMILIES,
)

GROUPS = frozenset(family.group for family in FAMILIES if family.group) | {"percpu"}
"""What the configuration can switch; ``percpu`` decides between the CPU usage by CPU and its total."""


def enabled(
    groups: frozenset[str], include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> tuple[Family, ...]:
    """Return the families of the groups that are on, and those that are always there.

    ``include`` and ``exclude`` are globs over names: more of the other groups, and none of these.
    """
    families = [
        family
        for family in FAMILIES
        if not family.group or family.group in groups or _is_listed(family, include)
        if not _is_listed(family, exclude)
    ]
    return tuple(
        cpu.USAGE_TOTAL if family is cpu.USAGE and "percpu" not in groups else family for family in families
    )


def _is_listed(family: Family, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(family.name, glob) for glob in globs)
