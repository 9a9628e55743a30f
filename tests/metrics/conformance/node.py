"""The families of the node: its file systems, its memory modules, how it is built, its pressure."""

from __future__ import annotations

from tests.metrics.conformance.rules import COUNTER, GAUGE, NodeRow, Row, none

_OF_THE_NODE = ("boot_id", "machine_id", "system_uuid")
_PRESSURES = (
    *("cpu_waiting", "memory_waiting", "memory_stalled"),
    *("io_waiting", "io_stalled", "irq_stalled"),
)

# A captured tree has no file systems that could be asked.
ROWS: tuple[Row, ...] = tuple(
    Row(
        f"container_fs_{what}",
        GAUGE,
        ("device",),
        none,
        none,
        "Docker's containers, too: by a walk through all their files, and inodes_total shows those in use;"
        " overlays, and a tmpfs in each container; a disk that hangs holds up everything",
    )
    for what in ("usage_bytes", "limit_bytes", "inodes_total", "inodes_free")
)


def _topology(what: str, *labels: str) -> NodeRow:
    return NodeRow(f"machine_{what}", GAUGE, (*_OF_THE_NODE, *labels), once=False)


NODE_ROWS: tuple[NodeRow, ...] = (
    _topology("cpu_cache_capacity_bytes", "node_id", "core_id", "type", "level"),
    _topology("thread_siblings_count", "node_id", "core_id", "thread_id"),
    _topology("node_memory_capacity_bytes", "node_id"),
    _topology("node_hugepages_count", "node_id", "page_size"),
    _topology("node_distance", "node_id", "target_node_id"),
    _topology("dimm_count", "type"),
    _topology("dimm_capacity_bytes", "type"),
    *(
        NodeRow(f"machine_pressure_{what}_seconds_total", COUNTER, _OF_THE_NODE, once=False, own=True)
        for what in _PRESSURES
    ),
    *(
        NodeRow(f"machine_pressure_{what}_ratio", GAUGE, (*_OF_THE_NODE, "window"), once=False, own=True)
        for what in _PRESSURES
    ),
)
