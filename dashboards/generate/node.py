"""Nodes and all of their containers: what runs, who uses most, and who is held up."""

from __future__ import annotations

from dashboards.generate import agent, devices
from dashboards.generate.board import TOP, Row, text
from dashboards.generate.panels import (
    ANY,
    BY_CONTAINER,
    OPENS,
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
    increase,
    memory_share,
    rate,
    series,
    throttled_share,
    top,
    total,
    worst,
)

_IDENTITY = "instance, id, name, image"

_USED = total(NODES, rate("container_cpu_usage_seconds_total", NODE))
_CPUS = worst(NODES, series("machine_cpu_cores", TARGET))
_MEMORY = worst(NODES, series("machine_memory_bytes", TARGET))
_WORKING_SET = total(NODES, series("container_memory_working_set_bytes", NODE))
_LIMITS = total(NODES, f"{series('container_spec_memory_limit_bytes', CONTAINERS)} > 0")
_NOT_RUNNING = series("container_state", CONTAINERS + ', state!="running"')
_UNHEALTHY = series("container_health_status", CONTAINERS + ', status="unhealthy"')
_CPU_LIMITS = total(NODES, cpu_limit(CONTAINERS))


def dashboard() -> str:
    """Return the dashboard as JSON."""
    return text(
        "cgwatch / Nodes",
        "cgwatch-node",
        "Container hosts: running containers, the node's CPU, memory, network and disks and who uses them, "
        "limits against capacity, and the agent itself.",
        TOP,
        (_OVERVIEW, _CONTAINERS, _CPU, _MEMORY_ROW, _PRESSURE, devices.TRAFFIC, devices.DISKS, agent.ROW),
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
        number(
            "Not running",
            "Containers that the runtime knows of and that do not run: ended, paused, or about to restart.",
            "none",
            f"count({_NOT_RUNNING} == 1)",
            width=6,
            without="0",
        ),
        number(
            "Unhealthy",
            "Containers whose health check fails.",
            "none",
            f"count({_UNHEALTHY} == 1)",
            width=6,
            thresholds=ANY,
            without="0",
        ),
        number(
            "Restarted",
            "How often containers were started again by their restart policy.",
            "short",
            f"sum({increase('container_restarts_total', CONTAINERS)})",
            width=6,
            thresholds=ANY,
        ),
        number(
            "Killed for memory",
            "Processes that the kernel killed for want of memory.",
            "short",
            f"sum({increase('container_oom_events_total', CONTAINERS)})",
            width=6,
            thresholds=ANY,
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
                    "Tasks",
                    worst(_IDENTITY, series("container_pids_current", CONTAINERS)),
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
        lines(
            "Containers by state",
            "How many containers are in which state, as the runtime says.",
            "short",
            Query(total("instance, state", series("container_state", CONTAINERS)), "{{instance}} {{state}}"),
            stacked=True,
        ),
        lines(
            "Restarts and kills",
            "Containers that were started again by their restart policy, and those in which the kernel "
            "killed a process for want of memory." + OPENS,
            "short",
            *(
                Query(top(total(NAMES, increase(metric, CONTAINERS))), f"{BY_CONTAINER} {words}")
                for metric, words in (
                    ("container_restarts_total", "restarted"),
                    ("container_oom_events_total", "killed"),
                )
            ),
            opens_container=True,
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
            "CPUs in use, by the containers that use most." + OPENS,
            "short",
            Query(top(total(NAMES, cpu_usage(CONTAINERS))), BY_CONTAINER),
            opens_container=True,
        ),
        lines(
            "Throttled periods",
            "Share of the periods in which a container wanted to run and had used up its CPU quota." + OPENS,
            "percentunit",
            Query(top(worst(NAMES, throttled_share(CONTAINERS))), BY_CONTAINER),
            opens_container=True,
        ),
        lines(
            "CPUs held back",
            "CPU time that quotas held containers back for, as a number of CPUs: one thread that is always "
            "held back counts as 1." + OPENS,
            "short",
            Query(
                top(total(NAMES, rate("container_cpu_cfs_throttled_seconds_total", CONTAINERS))),
                BY_CONTAINER,
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
            "Memory without the inactive page cache, of the containers that use most." + OPENS,
            "bytes",
            Query(
                top(total(NAMES, series("container_memory_working_set_bytes", CONTAINERS))),
                BY_CONTAINER,
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
            + OPENS,
            "percentunit",
            Query(top(worst(NAMES, memory_share(CONTAINERS))), BY_CONTAINER),
            opens_container=True,
        ),
        lines(
            "Memory limits hit",
            "How often a container ran into its memory limit: at best it loses page cache for it, at worst a "
            "process." + OPENS,
            "cps",
            Query(top(total(NAMES, rate("container_memory_failcnt", CONTAINERS))), BY_CONTAINER),
            opens_container=True,
        ),
        lines(
            "Cgroups of the node",
            "Cgroups that there are, and removed ones that the kernel still holds for memory that was "
            "charged to them: endless growth of these is a leak.",
            "short",
            Query(total(NODES, series("container_cgroup_descendants", NODE)), "{{instance}} cgroups"),
            Query(
                total(NODES, series("container_cgroup_dying_descendants", NODE)), "{{instance}} removed, held"
            ),
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
                    worst(NODES, rate(f"machine_pressure_{resource}_{suffix}_seconds_total", TARGET)),
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
                f"Share of the time in which some task of the container waited for {words}." + OPENS,
                "percentunit",
                Query(
                    top(
                        worst(NAMES, rate(f"container_pressure_{resource}_waiting_seconds_total", CONTAINERS))
                    ),
                    BY_CONTAINER,
                ),
                opens_container=True,
            )
            for resource, words in _PRESSURE_WORDS.items()
        ),
    ),
)
