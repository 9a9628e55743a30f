"""Nodes and all of their containers: what runs, who uses most, and who is held up."""

from __future__ import annotations

from dashboards.generate import agent
from dashboards.generate.board import TOP, Row, text
from dashboards.generate.panels import (
    ANY,
    OVERCOMMIT,
    SHARE,
    THROTTLED,
    UP,
    Column,
    Query,
    Style,
    lines,
    number,
    rows,
)
from dashboards.generate.promql import (
    CONTAINERS,
    NAMES,
    NODE,
    NODES,
    TARGET,
    cpu_limit,
    cpu_usage,
    memory_share,
    rate,
    series,
    throttled_share,
    top,
    total,
    worst,
)

_CONTAINER = "{{name}} on {{instance}}"
_IDENTITY = "instance, id, name, image"
_OPENS = " Click on a line to open the container."

_USED = total(NODES, rate("container_cpu_usage_seconds_total", NODE))
_CPUS = worst(NODES, series("machine_cpu_cores", TARGET))
_MEMORY = worst(NODES, series("machine_memory_bytes", TARGET))
_WORKING_SET = total(NODES, series("container_memory_working_set_bytes", NODE))
_LIMITS = total(NODES, f"{series('container_spec_memory_limit_bytes', CONTAINERS)} > 0")
_CPU_LIMITS = total(NODES, cpu_limit(CONTAINERS))


def dashboard() -> str:
    """Return the dashboard as JSON."""
    return text(
        "cgwatch / Nodes",
        "cgwatch-node",
        "Container hosts: running containers, the node's CPU, memory, network and disks and who uses them, "
        "limits against capacity, and the agent itself.",
        TOP,
        (_OVERVIEW, _CONTAINERS, _CPU, _MEMORY_ROW, _PRESSURE, _TRAFFIC, agent.ROW),
    )


_OVERVIEW = Row(
    "Overview",
    (
        number(
            "Running containers",
            "Containers with a name in the last sample.",
            "none",
            f"count({series('container_last_seen', CONTAINERS)})",
            without="0",
        ),
        number(
            "CPU used",
            "CPU time used on the nodes, by containers or not, of all their CPUs.",
            "percentunit",
            f"sum({_USED}) / sum({_CPUS})",
            thresholds=SHARE,
        ),
        number(
            "Memory used",
            "Working set of the nodes (without page cache that is easy to reclaim) of their memory.",
            "percentunit",
            f"sum({_WORKING_SET}) / sum({_MEMORY})",
            thresholds=SHARE,
        ),
        number(
            "Memory limits of memory",
            "The sum of the containers' memory limits, of the memory of the nodes: over 100 % they cannot "
            "all have what they are allowed.",
            "percentunit",
            f"sum({_LIMITS}) / sum({_MEMORY})",
            thresholds=OVERCOMMIT,
            without="no limits",
        ),
        number(
            "CPU limits of CPUs",
            "The sum of the containers' CPU quotas, of the CPUs of the nodes.",
            "percentunit",
            f"sum({_CPU_LIMITS}) / sum({_CPUS})",
            thresholds=OVERCOMMIT,
            without="no limits",
        ),
        number(
            "Without a memory limit",
            "Containers that may use all memory of their node.",
            "none",
            f"count({series('container_spec_memory_limit_bytes', CONTAINERS)} == 0)",
            without="0",
        ),
        number(
            "Throttled",
            "Containers whose CPU quota was used up in more than a quarter of its periods.",
            "none",
            f"count({throttled_share(CONTAINERS)} > 0.25)",
            thresholds=ANY,
            without="0",
        ),
        number(
            "Agents that answer",
            "Agents that Prometheus could scrape, of all it knows of.",
            "percentunit",
            f"avg(up{{{TARGET}}})",
            thresholds=UP,
        ),
    ),
)

_CONTAINERS = Row(
    "Containers",
    (
        rows(
            "Containers",
            "Every container with its present use; an empty cell is no limit. Click on a name to open its "
            "dashboard.",
            {"name": "Container", "instance": "Node", "image": "Image"},
            (
                Column(
                    "CPUs used",
                    total(_IDENTITY, rate("container_cpu_usage_seconds_total", CONTAINERS)),
                    "short",
                ),
                Column(
                    "Throttled",
                    worst(_IDENTITY, throttled_share(CONTAINERS)),
                    "percentunit",
                    THROTTLED,
                ),
                Column(
                    "Working set",
                    worst(_IDENTITY, series("container_memory_working_set_bytes", CONTAINERS)),
                    "bytes",
                ),
                Column(
                    "Memory limit",
                    worst(_IDENTITY, f"{series('container_spec_memory_limit_bytes', CONTAINERS)} > 0"),
                    "bytes",
                ),
                Column(
                    "Of memory limit",
                    worst(_IDENTITY, memory_share(CONTAINERS)),
                    "percentunit",
                    SHARE,
                ),
                Column(
                    "Threads",
                    worst(_IDENTITY, series("container_threads", CONTAINERS)),
                    "none",
                ),
                Column(
                    "Started",
                    f"{worst(_IDENTITY, series('container_start_time_seconds', CONTAINERS))} * 1000",
                    "dateTimeFromNow",
                ),
            ),
            sort_by="Working set",
        ),
    ),
)

_CPU = Row(
    "CPU",
    (
        lines(
            "CPU of the node",
            "CPUs in use, by all of the node and by its containers together.",
            "short",
            Query(_USED, "{{instance}}"),
            Query(
                total(NODES, rate("container_cpu_usage_seconds_total", CONTAINERS)),
                "{{instance}} containers",
            ),
            Query(_CPUS, "{{instance}} CPUs", Style.BOUND),
        ),
        lines(
            "CPU of containers",
            "CPUs in use, by the containers that use most." + _OPENS,
            "short",
            Query(top(total(NAMES, cpu_usage(CONTAINERS))), _CONTAINER),
            opens_container=True,
        ),
        lines(
            "Throttled periods",
            "Share of the periods in which a container wanted to run and had used up its CPU quota." + _OPENS,
            "percentunit",
            Query(top(worst(NAMES, throttled_share(CONTAINERS))), _CONTAINER),
            opens_container=True,
        ),
        lines(
            "CPUs held back",
            "CPU time that quotas held containers back for, as a number of CPUs: one thread that is always "
            "held back counts as 1." + _OPENS,
            "short",
            Query(
                top(total(NAMES, rate("container_cpu_cfs_throttled_seconds_total", CONTAINERS))),
                _CONTAINER,
            ),
            opens_container=True,
        ),
    ),
)

_MEMORY_ROW = Row(
    "Memory",
    (
        lines(
            "Memory of the node",
            "Working set of the node (what cannot be reclaimed easily), page cache and swap in use, against "
            "its memory.",
            "bytes",
            Query(_WORKING_SET, "{{instance}} working set"),
            Query(total(NODES, series("container_memory_cache", NODE)), "{{instance}} page cache"),
            Query(total(NODES, series("container_memory_swap", NODE)), "{{instance}} swap"),
            Query(_MEMORY, "{{instance}} memory", Style.BOUND),
        ),
        lines(
            "Working set of containers",
            "Memory without the inactive page cache, of the containers that use most." + _OPENS,
            "bytes",
            Query(
                top(total(NAMES, series("container_memory_working_set_bytes", CONTAINERS))),
                _CONTAINER,
            ),
            opens_container=True,
        ),
        lines(
            "Limits against memory",
            "What the containers may use, is kept for them, and they use, against the memory of the node. "
            "Containers without a limit count only for what they use.",
            "bytes",
            Query(_LIMITS, "{{instance}} limits"),
            Query(
                total(NODES, series("container_spec_memory_reservation_limit_bytes", CONTAINERS)),
                "{{instance}} reservations",
            ),
            Query(
                total(NODES, series("container_memory_working_set_bytes", CONTAINERS)),
                "{{instance}} working set",
            ),
            Query(_MEMORY, "{{instance}} memory", Style.BOUND),
        ),
        lines(
            "Working set of the limit",
            "Working set as a share of the container's memory limit; those without a limit are not here."
            + _OPENS,
            "percentunit",
            Query(top(worst(NAMES, memory_share(CONTAINERS))), _CONTAINER),
            opens_container=True,
        ),
    ),
)

_PRESSURE_WORDS = {"cpu": "CPU", "memory": "memory", "io": "I/O"}
_PRESSURE = Row(
    "Pressure",
    (
        lines(
            "Pressure on the node",
            "Share of the time in which some task waited for a resource, or all tasks did at once (stalled).",
            "percentunit",
            *(
                Query(
                    total(NODES, rate(f"container_pressure_{resource}_{suffix}_seconds_total", NODE)),
                    f"{{{{instance}}}} {words} {suffix}",
                )
                for resource, words in _PRESSURE_WORDS.items()
                for suffix in ("waiting", "stalled")
                # All tasks of a whole node cannot wait for a CPU at once.
                if (resource, suffix) != ("cpu", "stalled")
            ),
        ),
        *(
            lines(
                f"Containers that wait for {words}",
                f"Share of the time in which some task of the container waited for {words}." + _OPENS,
                "percentunit",
                Query(
                    top(
                        worst(NAMES, rate(f"container_pressure_{resource}_waiting_seconds_total", CONTAINERS))
                    ),
                    _CONTAINER,
                ),
                opens_container=True,
            )
            for resource, words in _PRESSURE_WORDS.items()
        ),
    ),
)

_TRAFFIC = Row(
    "Network and block I/O",
    (
        lines(
            "Network of the node",
            "Bytes received (above) and sent (below), by interface of the host.",
            "Bps",
            Query(
                total("instance, interface", rate("container_network_receive_bytes_total", NODE)),
                "{{instance}} {{interface}} received",
            ),
            Query(
                total("instance, interface", rate("container_network_transmit_bytes_total", NODE)),
                "{{instance}} {{interface}} sent",
                Style.BELOW,
            ),
        ),
        lines(
            "Network of containers",
            "Bytes received (above) and sent (below). Containers that share a network are shown once, as the "
            "one that made it; those on the host's network are in the node's." + _OPENS,
            "Bps",
            Query(
                top(total(NAMES, rate("container_network_receive_bytes_total", CONTAINERS))),
                f"{_CONTAINER} received",
            ),
            Query(
                top(total(NAMES, rate("container_network_transmit_bytes_total", CONTAINERS))),
                f"{_CONTAINER} sent",
                Style.BELOW,
            ),
            opens_container=True,
        ),
        lines(
            "Block I/O of the node",
            "Bytes read (above) and written (below), by device.",
            "Bps",
            Query(
                total("instance, device", rate("container_fs_reads_bytes_total", NODE)),
                "{{instance}} {{device}} read",
            ),
            Query(
                total("instance, device", rate("container_fs_writes_bytes_total", NODE)),
                "{{instance}} {{device}} written",
                Style.BELOW,
            ),
        ),
        lines(
            "Block I/O of containers",
            "Bytes read (above) and written (below), on all devices." + _OPENS,
            "Bps",
            Query(
                top(total(NAMES, rate("container_fs_reads_bytes_total", CONTAINERS))),
                f"{_CONTAINER} read",
            ),
            Query(
                top(total(NAMES, rate("container_fs_writes_bytes_total", CONTAINERS))),
                f"{_CONTAINER} written",
                Style.BELOW,
            ),
            opens_container=True,
        ),
    ),
)
