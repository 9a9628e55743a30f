"""The families of cAdvisor's usual groups: CPU, memory, disk, network, pressure, limits, the machine."""

from __future__ import annotations

from tests.metrics.conformance.rules import (
    COUNTER,
    GAUGE,
    ZERO_ROOT,
    ZERO_V1,
    ZERO_V2,
    NodeRow,
    Row,
    device,
    each,
    file,
    key,
    network,
    none,
    not_zero,
    quota,
    root_or,
)


def _spec() -> tuple[Row, ...]:
    return (
        Row("container_spec_cpu_period", GAUGE, (), file("cpu.cfs_period_us"), file("cpu.max"), ZERO_ROOT),
        Row("container_spec_cpu_quota", GAUGE, (), quota, quota),
        Row("container_spec_cpu_shares", GAUGE, (), file("cpu.shares"), file("cpu.weight"), ZERO_ROOT),
        Row(
            "container_spec_memory_limit_bytes",
            GAUGE,
            (),
            root_or("memory.limit_in_bytes"),
            root_or("memory.max"),
        ),
        Row(
            "container_spec_memory_swap_limit_bytes",
            GAUGE,
            (),
            root_or("memory.memsw.limit_in_bytes"),
            root_or("memory.swap.max"),
        ),
        Row(
            "container_spec_memory_reservation_limit_bytes",
            GAUGE,
            (),
            file("memory.soft_limit_in_bytes"),
            file("memory.low"),
            "memory.min on v2, which runtimes do not write; 0 for its root",
        ),
    )


def _cpu() -> tuple[Row, ...]:
    cfs = "container_cpu_cfs"
    return (
        Row(
            "container_cpu_usage_seconds_total",
            COUNTER,
            ("cpu",),
            not_zero("cpuacct.usage", ""),
            not_zero("cpu.stat", "usage_usec "),
        ),
        Row("container_cpu_user_seconds_total", COUNTER, (), file("cpuacct.stat"), file("cpu.stat")),
        Row("container_cpu_system_seconds_total", COUNTER, (), file("cpuacct.stat"), file("cpu.stat")),
        Row(f"{cfs}_periods_total", COUNTER, (), quota, quota),
        Row(f"{cfs}_throttled_periods_total", COUNTER, (), quota, quota),
        Row(f"{cfs}_throttled_seconds_total", COUNTER, (), quota, quota),
        Row(f"{cfs}_burst_periods_total", COUNTER, (), quota, quota, ZERO_V1),
        Row(f"{cfs}_burst_seconds_total", COUNTER, (), quota, quota, ZERO_V1),
    )


def _memory() -> tuple[Row, ...]:
    def stat(name: str, kind: str, v1: str, v2: str, departs: str = "") -> Row:
        """Give a family of memory.stat; without a key on v1, no cgroup has it there."""
        on_v1 = key("memory.stat", v1) if v1 else none
        return Row(f"container_memory_{name}", kind, (), on_v1, key("memory.stat", v2), departs)

    usage, events = file("memory.usage_in_bytes"), file("memory.events")
    return (
        Row("container_memory_usage_bytes", GAUGE, (), usage, file("memory.stat")),
        Row("container_memory_working_set_bytes", GAUGE, (), usage, file("memory.stat")),
        stat("rss", GAUGE, "total_rss", "anon"),
        stat("cache", GAUGE, "total_cache", "file"),
        stat("mapped_file", GAUGE, "total_mapped_file", "file_mapped"),
        Row(
            "container_memory_swap",
            GAUGE,
            (),
            key("memory.stat", "total_swap"),
            root_or("memory.swap.current"),
        ),
        Row(
            "container_memory_max_usage_bytes",
            GAUGE,
            (),
            file("memory.max_usage_in_bytes"),
            file("memory.peak"),
            "0 on v2 before kernel 5.19, and for its root",
        ),
        Row("container_memory_failcnt", COUNTER, (), file("memory.failcnt"), events, ZERO_V2),
        Row(
            "container_memory_kernel_usage",
            GAUGE,
            (),
            file("memory.kmem.usage_in_bytes"),
            key("memory.stat", "kernel"),
            ZERO_V2,
        ),
        stat("total_active_file_bytes", GAUGE, "total_active_file", "active_file"),
        stat("total_inactive_file_bytes", GAUGE, "total_inactive_file", "inactive_file"),
        Row(
            "container_memory_failures_total",
            COUNTER,
            ("failure_type", "scope"),
            file("memory.stat"),
            file("memory.stat"),
            "v1 shows the container's own numbers for both scopes",
        ),
        Row("container_memory_events_high_total", COUNTER, (), none, events, f"{ZERO_V1}, {ZERO_ROOT}"),
        Row(
            "container_memory_events_max_total",
            COUNTER,
            (),
            file("memory.failcnt"),
            events,
            f"{ZERO_V1}, {ZERO_ROOT}",
        ),
        stat("file_dirty_bytes", GAUGE, "total_dirty", "file_dirty", ZERO_V1),
        stat("file_writeback_bytes", GAUGE, "total_writeback", "file_writeback", ZERO_V1),
        stat("pgscan_total", COUNTER, "", "pgscan", ZERO_V1),
        stat("pgsteal_total", COUNTER, "", "pgsteal", ZERO_V1),
        *(
            stat(f"{word}_total", COUNTER, f"total_{word}", word, "without nested cgroups on v1")
            for word in ("workingset_refault_file", "workingset_refault_anon")
        ),
    )


def _disk() -> tuple[Row, ...]:
    v1, v2 = device("blkio.throttle.io_service_bytes_recursive"), device("io.stat")
    departs = 'device="" where the number has no name'
    return (
        *(
            Row(f"container_fs_{what}_total", COUNTER, ("device",), v1, v2, departs)
            for what in ("reads_bytes", "writes_bytes", "reads", "writes")
        ),
        Row(
            "container_blkio_device_usage_total",
            COUNTER,
            ("device", "major", "minor", "operation"),
            v1,
            v2,
            departs,
        ),
    )


def _network() -> tuple[Row, ...]:
    return tuple(
        Row(
            f"container_network_{direction}_{what}_total",
            COUNTER,
            ("interface",),
            network,
            network,
            "each container of a shared network namespace shows it, and those on the host's show the host's",
        )
        for direction in ("receive", "transmit")
        for what in ("bytes", "packets", "packets_dropped", "errors")
    )


def _pressure() -> tuple[Row, ...]:
    return tuple(
        Row(
            f"container_pressure_{resource}_{what}_seconds_total",
            COUNTER,
            (),
            file(f"{resource}.pressure"),  # v1 with a unified hierarchy beside it
            file(f"{resource}.pressure"),
            "0 without pressure stall information, which is never read on v1",
        )
        for resource in ("cpu", "memory", "io")
        for what in ("waiting", "stalled")
    )


_OF_THE_NODE = ("boot_id", "machine_id", "system_uuid")

ROWS: tuple[Row, ...] = (
    Row("container_last_seen", GAUGE, (), each, each, "the time of the scrape"),
    Row("container_creation_time_seconds", GAUGE, (), each, each, "whole seconds"),
    Row("container_start_time_seconds", GAUGE, (), each, each, "whole seconds"),
    Row("container_health_state", GAUGE, (), each, each),
    Row("container_oom_events_total", COUNTER, (), each, each, "0, but for the cgroup's own, by /dev/kmsg"),
    *_spec(),
    *_cpu(),
    *_memory(),
    *_disk(),
    *_network(),
    *_pressure(),
    Row("container_processes", GAUGE, (), each, each, "without those of nested cgroups"),
    Row("container_threads", GAUGE, (), file("pids.current"), file("pids.current"), "0 for the root"),
    Row("container_threads_max", GAUGE, (), file("pids.max"), file("pids.max"), "0 for the root"),
)

NODE_ROWS = (
    NodeRow("container_scrape_error", GAUGE),
    NodeRow("machine_scrape_error", GAUGE),
    NodeRow(
        "cadvisor_version_info",
        GAUGE,
        ("kernelVersion", "osVersion", "dockerVersion", "cadvisorVersion", "cadvisorRevision"),
    ),
    *(
        NodeRow(f"machine_{what}", GAUGE, _OF_THE_NODE)
        for what in (
            *("cpu_cores", "cpu_physical_cores", "cpu_sockets", "cpu_books", "cpu_drawers"),
            *("memory_bytes", "swap_bytes"),
        )
    ),
)
