"""Chosen containers in detail: each resource against its limit, and the time spent waiting for it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from dashboards.generate.board import NAME, Row, several, text
from dashboards.generate.panels import SHARE, THROTTLED, Column, Query, Style, lines, number, rows
from dashboards.generate.promql import (
    CHOSEN,
    NAMES,
    cpu_limit,
    cpu_usage,
    increase,
    memory_share,
    rate,
    series,
    share,
    throttled_share,
    total,
    worst,
)

_IDENTITY = "instance, id, name, image"
_YES_NO = {"0": "no", "1": "yes"}
_HEALTH = {"-1": "no check", "0": "not healthy", "1": "healthy"}


def dashboard() -> str:
    """Return the dashboard as JSON."""
    return text(
        "cgwatch / Containers",
        "cgwatch-container",
        "Containers in detail: memory, CPU, block I/O, network and processes against their limits, and the "
        "time that they wait.",
        several(NAME),
        (_OVERVIEW, _MEMORY, _CPU, _DISK, _NETWORK, _PROCESSES),
    )


def _limit(metric: str) -> Query:
    """Return the line of a limit; without a limit, which is a 0 in cAdvisor's names, there is none."""
    return Query(total(NAMES, f"{series(metric, CHOSEN)} > 0"), "{{name}} limit", Style.BOUND)


def _bytes(metric: str, words: str) -> Query:
    return Query(total(NAMES, series(metric, CHOSEN)), f"{{{{name}}}} {words}")


def _rates(metric: str, words: str) -> Query:
    return Query(total(NAMES, rate(metric, CHOSEN)), f"{{{{name}}}} {words}")


def _specified(title: str, metric: str, unit: str) -> Column:
    """Return the column of what may be specified; an empty cell says that it is not."""
    return Column(title, worst(_IDENTITY, f"{series(metric, CHOSEN)} > 0"), unit)


def _said(title: str, metric: str, *, words: dict[str, str] | None = None, where: str = "") -> Column:
    """Return the column of what the runtime says."""
    return Column(title, worst(_IDENTITY, series(metric, f"{CHOSEN}{where}")), "none", words=words)


def _pressure(resource: str, words: str, *, width: int = 12) -> timeseries.Panel:
    return lines(
        f"Waiting for {words}",
        f"Share of the time in which some task waited for {words}, and in which all did at once (stalled).",
        "percentunit",
        *(
            Query(
                worst(NAMES, rate(f"container_pressure_{resource}_{suffix}_seconds_total", CHOSEN)),
                f"{{{{name}}}} {suffix}",
            )
            for suffix in ("waiting", "stalled")
        ),
        width=width,
    )


def _disk(title: str, description: str, unit: str, suffix: str) -> timeseries.Panel:
    by = f"{NAMES}, device"
    return lines(
        title,
        f"{description} Reads are above the axis, writes below.",
        unit,
        Query(total(by, rate(f"container_fs_reads_{suffix}", CHOSEN)), "{{name}} {{device}} read"),
        Query(
            total(by, rate(f"container_fs_writes_{suffix}", CHOSEN)),
            "{{name}} {{device}} written",
            Style.BELOW,
        ),
        width=8,
    )


def _network(title: str, description: str, unit: str, suffix: str) -> timeseries.Panel:
    by = f"{NAMES}, interface"
    return lines(
        title,
        f"{description} What comes in is above the axis, what goes out below.",
        unit,
        Query(total(by, rate(f"container_network_receive_{suffix}", CHOSEN)), "{{name}} {{interface}} in"),
        Query(
            total(by, rate(f"container_network_transmit_{suffix}", CHOSEN)),
            "{{name}} {{interface}} out",
            Style.BELOW,
        ),
    )


_OVERVIEW = Row(
    "Overview",
    (
        number(
            "CPUs used",
            "CPUs in use, by the chosen containers together.",
            "short",
            f"sum({cpu_usage(CHOSEN)})",
            width=4,
        ),
        number(
            "Throttled",
            "Share of the periods in which the CPU quota was used up; of several containers, the highest.",
            "percentunit",
            f"max({throttled_share(CHOSEN)})",
            width=4,
            thresholds=THROTTLED,
            without="no quota",
        ),
        number(
            "Working set",
            "Memory without the inactive page cache, of the chosen containers together.",
            "bytes",
            f"sum({series('container_memory_working_set_bytes', CHOSEN)})",
            width=4,
        ),
        number(
            "Working set of the limit",
            "Share of the memory limit; of several containers, the highest.",
            "percentunit",
            f"max({memory_share(CHOSEN)})",
            width=4,
            thresholds=SHARE,
            without="no limit",
        ),
        number(
            "Tasks",
            "Processes and threads of the chosen containers together.",
            "none",
            f"sum({series('container_pids_current', CHOSEN)})",
            width=4,
        ),
        number(
            "Uptime",
            "Time since the last start; of several containers, the shortest.",
            "dtdurations",
            f"time() - max({series('container_start_time_seconds', CHOSEN)})",
            width=4,
        ),
        rows(
            "Specification",
            "What the chosen containers are allowed. An empty cell is no limit; CPU shares count against "
            "those of the neighbours.",
            {"name": "Container", "instance": "Node", "image": "Image"},
            (
                Column("CPU limit", worst(_IDENTITY, cpu_limit(CHOSEN)), "short"),
                _specified("CPU shares", "container_spec_cpu_shares", "none"),
                _specified("Memory limit", "container_spec_memory_limit_bytes", "bytes"),
                _specified("Memory reservation", "container_spec_memory_reservation_limit_bytes", "bytes"),
                _specified("Swap limit", "container_spec_memory_swap_limit_bytes", "bytes"),
                _specified("Tasks limit", "container_spec_pids_limit", "none"),
                Column(
                    "Started",
                    f"{worst(_IDENTITY, series('container_start_time_seconds', CHOSEN))} * 1000",
                    "dateTimeAsIso",
                ),
            ),
            sort_by="Memory limit",
            height=6,
        ),
        rows(
            "State",
            "What the runtime says of the chosen containers, and of those that do not run if all are chosen. "
            "Exit code and end are those of the last run that ended.",
            {"name": "Container", "instance": "Node", "image": "Image"},
            (
                _said("Running", "container_state", words=_YES_NO, where=', state="running"'),
                _said("Health", "container_health_state", words=_HEALTH),
                _said("Restarts", "container_restarts_total"),
                _said("Exit code", "container_exit_code"),
                _said("Killed for memory", "container_oom_killed", words=_YES_NO),
                Column(
                    "Ended",
                    f"{worst(_IDENTITY, series('container_finished_time_seconds', CHOSEN))} * 1000",
                    "dateTimeAsIso",
                ),
            ),
            sort_by="Restarts",
            height=6,
        ),
    ),
)

_MEMORY = Row(
    "Memory",
    (
        lines(
            "Memory by kind",
            "Anonymous memory, page cache of files, shared memory, kernel memory and swap, stacked, against "
            "the memory limit, which swap does not count to.",
            "bytes",
            _bytes("container_memory_rss", "anonymous"),
            Query(
                f"{total(NAMES, series('container_memory_cache', CHOSEN))}"
                f" - {total(NAMES, series('container_memory_shmem_bytes', CHOSEN))}",
                "{{name}} files",
            ),
            _bytes("container_memory_shmem_bytes", "shared"),
            _bytes("container_memory_kernel_usage", "kernel"),
            _bytes("container_memory_swap", "swap"),
            _limit("container_spec_memory_limit_bytes"),
            stacked=True,
        ),
        lines(
            "Usage and working set",
            "All memory that is charged, that without the inactive page cache (working set), and the highest "
            "usage so far.",
            "bytes",
            _bytes("container_memory_usage_bytes", "usage"),
            _bytes("container_memory_working_set_bytes", "working set"),
            _bytes("container_memory_max_usage_bytes", "highest usage"),
            _limit("container_spec_memory_limit_bytes"),
        ),
        _pressure("memory", "memory"),
        lines(
            "Limits hit, kills and major faults",
            "How often the usage ran into the limit or over memory.high, processes were killed for want of "
            "memory, and pages had to be read from disk.",
            "cps",
            _rates("container_memory_failcnt", "limit hit"),
            _rates("container_memory_events_high_total", "over memory.high"),
            _rates("container_oom_events_total", "killed"),
            Query(
                total(
                    NAMES,
                    rate(
                        "container_memory_failures_total",
                        f'{CHOSEN}, failure_type="pgmajfault", scope="hierarchy"',
                    ),
                ),
                "{{name}} major faults",
            ),
        ),
        lines(
            "Page cache",
            "Inactive page cache is reclaimed first; dirty pages have to be written before.",
            "bytes",
            _bytes("container_memory_total_active_file_bytes", "active"),
            _bytes("container_memory_total_inactive_file_bytes", "inactive"),
            _bytes("container_memory_mapped_file", "mapped"),
            _bytes("container_memory_file_dirty_bytes", "dirty"),
            _bytes("container_memory_file_writeback_bytes", "being written"),
        ),
        lines(
            "Kernel memory",
            "What the kernel keeps for the container, where it says so (cgroup v2): objects that it can do "
            "without and others (slab), buffers of sockets, stacks, page tables, and data for each CPU.",
            "bytes",
            _bytes("container_memory_slab_reclaimable_bytes", "slab, reclaimable"),
            _bytes("container_memory_slab_unreclaimable_bytes", "slab, unreclaimable"),
            _bytes("container_memory_sock_bytes", "sockets"),
            _bytes("container_memory_kernel_stack_bytes", "stacks"),
            _bytes("container_memory_page_tables_bytes", "page tables"),
            _bytes("container_memory_percpu_bytes", "for each CPU"),
            stacked=True,
        ),
        lines(
            "Reclaim",
            "Pages that the kernel looked at and freed to make room, and pages that came back soon after: "
            "many of those say that the memory is too small for the work.",
            "cps",
            _rates("container_memory_pgscan_total", "pages scanned"),
            _rates("container_memory_pgsteal_total", "pages freed"),
            _rates("container_memory_workingset_refault_file_total", "page cache read again"),
            _rates("container_memory_workingset_refault_anon_total", "swapped in again"),
        ),
    ),
)

_CPU = Row(
    "CPU",
    (
        lines(
            "CPU by mode",
            "CPUs in use in user mode and in the kernel, stacked, against the quota.",
            "short",
            _rates("container_cpu_user_seconds_total", "user"),
            _rates("container_cpu_system_seconds_total", "kernel"),
            Query(total(NAMES, cpu_limit(CHOSEN)), "{{name}} limit", Style.BOUND),
            stacked=True,
        ),
        lines(
            "CPU of the limit",
            "CPU time used as a share of the quota, and the share of the quota's periods in which it was "
            "used up. Throttled far below the limit: the load comes in bursts, or in many threads at once.",
            "percentunit",
            Query(worst(NAMES, share(cpu_usage(CHOSEN), cpu_limit(CHOSEN))), "{{name}} used"),
            Query(worst(NAMES, throttled_share(CHOSEN)), "{{name}} periods throttled"),
        ),
        lines(
            "CPUs held back",
            "CPU time that quotas held the container back for, as a number of CPUs: one thread that is "
            "always held back counts as 1. A quota above the container holds back all that share it.",
            "short",
            _rates("container_cpu_cfs_throttled_seconds_total", "by its own quota"),
            _rates("container_cpu_local_throttled_seconds_total", "by any quota"),
            _rates("container_cpu_ancestor_throttled_seconds_total", "and others, by a quota above"),
        ),
        _pressure("cpu", "CPU"),
    ),
)

_DISK = Row(
    "Block I/O",
    (
        _disk("Disk bytes", "Bytes by device.", "Bps", "bytes_total"),
        _disk("Disk requests", "Requests by device.", "iops", "total"),
        _pressure("io", "I/O", width=8),
    ),
)

_NETWORK = Row(
    "Network",
    (
        _network(
            "Network bytes",
            "Bytes by interface; of containers that share a network, only the one that made it has some.",
            "Bps",
            "bytes_total",
        ),
        _network("Network packets", "Packets by interface.", "pps", "packets_total"),
        _network("Network drops", "Packets dropped, by interface.", "pps", "packets_dropped_total"),
        _network("Network errors", "Errors among packets, by interface.", "pps", "errors_total"),
    ),
)

_PROCESSES = Row(
    "Processes",
    (
        lines(
            "Tasks against their limit",
            "Processes and threads against their limit, beyond which none can be started, and the most that "
            "there were.",
            "short",
            Query(total(NAMES, series("container_pids_current", CHOSEN)), "{{name}} tasks"),
            Query(total(NAMES, series("container_pids_peak", CHOSEN)), "{{name}} most"),
            _limit("container_spec_pids_limit"),
            width=8,
        ),
        lines(
            "Tasks refused",
            "How often a process or thread could not be started for a limit on tasks.",
            "short",
            Query(total(NAMES, increase("container_pids_limit_hits_total", CHOSEN)), "{{name}}"),
            width=8,
        ),
        lines(
            "Nested cgroups",
            "Cgroups that the container has made, and removed ones that the kernel still holds for memory "
            "that was charged to them.",
            "short",
            Query(total(NAMES, series("container_cgroup_descendants", CHOSEN)), "{{name}} cgroups"),
            Query(
                total(NAMES, series("container_cgroup_dying_descendants", CHOSEN)), "{{name}} removed, held"
            ),
            width=8,
        ),
    ),
)
