"""How the machine is built: NUMA nodes, cores, threads, caches.

The kernel's core ids repeat: from socket to socket, and on boards with big and little cores from cluster to
cluster. cAdvisor then has several series of the same labels and loses all but one. Here such a core is called
by its id and its first CPU (``core_id="0/cpu4"``), all others by the id alone, as in cAdvisor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.families.machine import LABELS, of_the_machine
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot
from cgwatch.proc.topology import Core, Node

_KIBIBYTE = 1024

Values = Iterator[tuple[tuple[object, ...], Number | None]]
"""The values of the labels beyond the machine's own, and the value."""


def _cores(node: Node) -> Iterator[tuple[str, Core]]:
    """Give each core of a node with a name that no other one has."""
    times = Counter(core.core_id for core in node.cores)
    for core in node.cores:
        is_single = times[core.core_id] == 1
        yield str(core.core_id) if is_single else f"{core.core_id}/cpu{core.threads[0]}", core


def _caches(node: Node) -> Values:
    for core_id, core in _cores(node):
        for cache in core.caches:
            yield (node.node_id, core_id, cache.kind, cache.level), cache.size_bytes
    for cache in node.caches:
        yield (node.node_id, "", cache.kind, cache.level), cache.size_bytes


def _siblings(node: Node) -> Values:
    for core_id, core in _cores(node):
        for thread in core.threads:
            yield (node.node_id, core_id, thread), len(core.threads)


def _memory(node: Node) -> Values:
    yield (node.node_id,), node.memory_bytes


def _hugepages(node: Node) -> Values:
    for size_bytes, count in sorted(node.hugepages.items()):
        yield (node.node_id, size_bytes // _KIBIBYTE), count


def _distances(node: Node) -> Values:
    for target, distance in node.distances.items():
        yield (node.node_id, target), distance


def _topology(
    name: str,
    help_text: str,
    source: str,
    values: Callable[[Node], Values],
    labels: tuple[str, ...],
    absent: str = "",
) -> Family:
    def rows(snapshot: Snapshot) -> Iterable[Row]:
        found = {
            ",".join(label(key, str(part)) for key, part in zip(labels, parts, strict=True)): value
            for node in snapshot.topology
            for parts, value in values(node)
        }
        return found.items()

    return Family(
        name,
        Type.GAUGE,
        help_text,
        "cpu_topology",
        Part.SNAPSHOT,
        source,
        rows=of_the_machine(rows),
        labels=(*LABELS, *labels),
        reads=("topology",),
        absent=absent,
    )


_CPU, _NODE = "/sys/devices/system/cpu/cpu*", "/sys/devices/system/node/node*"
_NO_NUMA = "where the kernel knows no memory nodes (CONFIG_NUMA=n)"
FAMILIES = (
    _topology(
        "machine_cpu_cache_capacity_bytes",
        "Size of a cache that a core uses, or all cores of a memory node (empty core_id), in bytes.",
        f"{_CPU}/cache/index*/size",
        _caches,
        ("node_id", "core_id", "type", "level"),
        "where the machine does not tell of its caches, as many virtual ones",
    ),
    _topology(
        "machine_thread_siblings_count",
        "Logical CPUs of the core that the logical CPU belongs to, itself among them.",
        f"{_CPU}/topology/thread_siblings_list",
        _siblings,
        ("node_id", "core_id", "thread_id"),
    ),
    _topology(
        "machine_node_memory_capacity_bytes",
        "Memory of the memory node, in bytes.",
        f"{_NODE}/meminfo",
        _memory,
        ("node_id",),
        _NO_NUMA,
    ),
    _topology(
        "machine_node_hugepages_count",
        "Huge pages that are set aside on the memory node; page_size is in KiB.",
        f"{_NODE}/hugepages/hugepages-*kB/nr_hugepages",
        _hugepages,
        ("node_id", "page_size"),
        f"{_NO_NUMA} or no huge pages",
    ),
    _topology(
        "machine_node_distance",
        "Distance between two memory nodes as the firmware tells it; 10 is a node to itself.",
        f"{_NODE}/distance",
        _distances,
        ("node_id", "target_node_id"),
        _NO_NUMA,
    ),
)
