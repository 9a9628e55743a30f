"""Memory on each node of the machine."""

from __future__ import annotations

from collections.abc import Iterable

from cgwatch.cgroup.numa import NumaStats
from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.model import Snapshot


def _pages(numa: NumaStats, _snapshot: Snapshot) -> Iterable[Row]:
    return [
        (f'type="{each.kind}",scope="{scope}",node="{each.node}"', each.pages)
        for scope, found in (("container", numa.own), ("hierarchy", numa.hierarchical))
        for each in found
    ]


FAMILIES = (
    Family(
        "container_memory_numa_pages",
        Type.GAUGE,
        "Pages of memory on each node, of the container alone and with nested cgroups (scope hierarchy).",
        "memory_numa",
        Part.NUMA,
        "memory.numa_stat, divided by the size of a page; v1 in pages",
        rows=_pages,
        labels=("type", "scope", "node"),
        absent="of scope container on cgroup v2; of scope hierarchy on v1 before kernel 3.19",
    ),
)
