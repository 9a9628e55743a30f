"""CPUs and memory nodes."""

from __future__ import annotations

from tests.metrics.conformance.rules import GAUGE, ZERO_V2, Row, file, none

ROWS: tuple[Row, ...] = (
    Row("container_memory_migrate", GAUGE, (), file("cpuset.memory_migrate"), none, ZERO_V2),
    Row(
        "container_spec_cpuset_cpus",
        GAUGE,
        (),
        file("cpuset.effective_cpus"),
        file("cpuset.cpus.effective"),
        own=True,
    ),
    Row(
        "container_spec_cpuset_memory_nodes",
        GAUGE,
        (),
        file("cpuset.effective_mems"),
        file("cpuset.mems.effective"),
        own=True,
    ),
)
