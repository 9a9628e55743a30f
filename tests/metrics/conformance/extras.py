"""What cAdvisor lacks, of the controllers that it reads as well: all of it is cgwatch's own."""

from __future__ import annotations

from tests.metrics.conformance.rules import (
    COUNTER,
    GAUGE,
    Captured,
    Row,
    Rule,
    file,
    key,
    none,
    not_zero,
    quota,
)


def _set(name: str, *unset: str) -> Rule:
    """Return the cgroups whose kernel file has a bound other than these words for none."""
    return lambda cgroup: cgroup.text(name).strip() not in {"", *unset}


def _counted(name: str, word: str, bounded: Rule) -> Rule:
    """Return the cgroups with such a bound, or with a count of it other than 0."""
    counted, moved = key(name, word), not_zero(name, f"{word} ")
    return lambda cgroup: counted(cgroup) and (bounded(cgroup) or moved(cgroup))


def _below_a_quota(cgroup: Captured) -> bool:
    """Whether a cgroup above has a CPU quota."""
    if cgroup.path == "/":
        return False
    parents = tuple(directory.parent for directory in cgroup.directories)
    above = Captured(cgroup.path.rpartition("/")[0] or "/", parents, ())
    return quota(above) or _below_a_quota(above)


def _memory() -> tuple[Row, ...]:
    def own(what: str, v1: str, v2: str) -> Row:
        """Give a family of memory.stat; without a key on v1, no cgroup has it there."""
        on_v1 = key("memory.stat", v1) if v1 else none
        return Row(f"container_memory_{what}_bytes", GAUGE, (), on_v1, key("memory.stat", v2), own=True)

    def event(what: str, v1: Rule, v2: Rule) -> Row:
        return Row(f"container_memory_{what}_total", COUNTER, (), v1, v2, own=True)

    events, swap = "memory.events", "memory.swap.events"
    return (
        Row(
            "container_memory_docker_usage_bytes",
            GAUGE,
            (),
            file("memory.usage_in_bytes"),
            file("memory.stat"),
            own=True,
        ),
        own("shmem", "total_shmem", "shmem"),
        own("unevictable", "total_unevictable", "unevictable"),
        own("page_tables", "", "pagetables"),
        *(
            own(word, "", word)
            for word in (
                *("slab_reclaimable", "slab_unreclaimable", "sock", "kernel_stack", "percpu"),
                *("zswap", "zswapped"),
            )
        ),
        event("events_low", none, _counted(events, "low", _set("memory.low", "0"))),
        event("events_oom", none, key(events, "oom")),
        event("events_oom_kill", key("memory.oom_control", "oom_kill"), key(events, "oom_kill")),
        event("events_oom_group_kill", none, key(events, "oom_group_kill")),
        event("swap_events_high", none, _counted(swap, "high", _set("memory.swap.high", "max"))),
        event("swap_events_max", none, _counted(swap, "max", _set("memory.swap.max", "max"))),
        event("swap_events_fail", none, key(swap, "fail")),
    )


def _spec() -> tuple[Row, ...]:
    def own(what: str, v1: Rule, v2: Rule) -> Row:
        return Row(f"container_spec_{what}", GAUGE, (), v1, v2, own=True)

    return (
        own("memory_high_bytes", none, _set("memory.high", "max")),
        own("memory_low_bytes", none, _set("memory.low", "0")),
        own("memory_min_bytes", none, _set("memory.min", "0")),
        own("memory_swap_high_bytes", none, _set("memory.swap.high", "max")),
        own("memory_oom_group", none, file("memory.oom.group")),
        own("cpu_weight", none, file("cpu.weight")),
        own("cpu_idle", file("cpu.idle"), file("cpu.idle")),
        own("cpu_burst_seconds", _set("cpu.cfs_burst_us", "0"), _set("cpu.max.burst", "0")),
        own("pids_limit", _set("pids.max", "max"), _set("pids.max", "max")),
    )


def _cpu() -> tuple[Row, ...]:
    return (
        Row(
            "container_cpu_local_throttled_seconds_total",
            COUNTER,
            (),
            key("cpu.stat.local", "throttled_time"),
            key("cpu.stat.local", "throttled_usec"),
            own=True,
        ),
        *(
            Row(f"container_cpu_ancestor_{what}_total", COUNTER, (), _below_a_quota, _below_a_quota, own=True)
            for what in ("periods", "throttled_periods", "throttled_seconds")
        ),
    )


def _pids() -> tuple[Row, ...]:
    events = key("pids.events", "max")
    return (
        *(
            Row(f"container_pids_{what}", GAUGE, (), file(f"pids.{what}"), file(f"pids.{what}"), own=True)
            for what in ("current", "peak")
        ),
        Row("container_pids_limit_hits_total", COUNTER, (), events, events, own=True),
    )


def _cgroup() -> tuple[Row, ...]:
    return tuple(
        Row(
            f"container_cgroup_{what}", GAUGE, (), rule, rule, own=True
        )  # v1 with a unified hierarchy beside it
        for what, rule in (
            ("descendants", key("cgroup.stat", "nr_descendants")),
            ("dying_descendants", key("cgroup.stat", "nr_dying_descendants")),
            ("populated", key("cgroup.events", "populated")),
            ("frozen", key("cgroup.events", "frozen")),
        )
    )


def _pressure() -> tuple[Row, ...]:
    irq = file("irq.pressure")
    return (
        Row("container_pressure_irq_stalled_seconds_total", COUNTER, (), irq, irq, own=True),
        *(
            Row(
                f"container_pressure_{resource}_{what}_ratio",
                GAUGE,
                ("window",),
                key(f"{resource}.pressure", line),
                key(f"{resource}.pressure", line),
                own=True,
            )
            for resource in ("cpu", "memory", "io")
            for what, line in (("waiting", "some"), ("stalled", "full"))
        ),
    )


ROWS: tuple[Row, ...] = (*_memory(), *_spec(), *_cpu(), *_pids(), *_cgroup(), *_pressure())
