"""Memory on each node."""

from __future__ import annotations

from tests.metrics.conformance.rules import GAUGE, Row, file

ROWS: tuple[Row, ...] = (
    Row(
        "container_memory_numa_pages",
        GAUGE,
        ("type", "scope", "node"),
        file("memory.numa_stat"),
        file("memory.numa_stat"),
        "no series on v2",
    ),
)
