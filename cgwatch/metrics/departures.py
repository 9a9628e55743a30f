"""Where cgwatch shows something else than cAdvisor (v0.60), on purpose: the table of the README.

``strict`` replaces what can be had back. ``python -m tests.readme`` writes the table into the README.
"""

from __future__ import annotations

from msgspec import Struct


class Departure(Struct, frozen=True):
    """One difference."""

    metrics: tuple[str, ...]
    """Names, or globs over names."""
    cadvisor: str
    cgwatch: str
    why: str
    where: str = ""
    """Where they differ; empty: everywhere."""
    restored: bool = False
    """Whether ``metrics.strict_cadvisor`` brings cAdvisor's value back."""
    note: str = ""
    """How far it does, or why it does not."""

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return the row of the table."""
        names = ", ".join(f"`{name}`" for name in self.metrics)
        strict = ("yes" if self.restored else "no") + (f": {self.note}" if self.note else "")
        return (
            f"{names} ({self.where})" if self.where else names,
            self.cadvisor,
            self.cgwatch,
            self.why,
            strict,
        )


def table() -> str:
    """Return all of them in Markdown."""
    lines = ["| metric | cAdvisor | cgwatch | why | `strict_cadvisor` |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row.cells())} |" for row in DEPARTURES]
    return "\n".join(lines) + "\n"


_COUNTED, _SAID = "the kernel counts it", "the kernel says it"
_NO_ZERO = "a zero that nobody counted is not data"
_SUBTREE = "systemd or Docker in a container counts as its own"
_ONCE = "a sum over containers is right"
_LOST = "which of them cAdvisor shows is chance"

_ALL = (
    Departure(
        ("container_*",),
        "0 where the kernel has no such number",
        "no series",
        _NO_ZERO,
        restored=True,
        note="groups `cpu`, `memory`, `pressure`, `process`, `spec`",
    ),
    Departure(
        ("container_*", "machine_*"),
        "the time of the sample behind each value",
        "none",
        "with it Prometheus shows a container for five minutes after its end",
        note="`metrics.timestamps` does",
    ),
    Departure(
        ("container_*",),
        "every label and every listed variable of any container, on all series",
        "labels that `metrics.container_labels` lists, within `metrics.bounds`",
        "one container with many labels widens every series of the node; variables hold passwords",
        note="list `*`",
    ),
    Departure(
        ("container_*",),
        "one of two labels whose names are the same once sanitised, by chance",
        "always the same one; counted",
        "series keep their identity",
        note=_LOST,
    ),
    Departure(
        ("container_*",),
        "the restarts so far as a label, `container_label_restartcount`",
        "`container_restarts_total`",
        "each restart began all series anew",
        note="it breaks every `rate()`",
    ),
)

_ALWAYS = (
    Departure(
        ("container_last_seen",),
        "the time of the scrape",
        "the time of the last sample",
        "that is when it was seen",
        note="they are one interval apart at most",
    ),
    Departure(
        ("container_creation_time_seconds", "container_start_time_seconds"),
        "whole seconds",
        "fractions",
        "as the runtime says",
        restored=True,
    ),
    Departure(
        ("container_creation_time_seconds", "container_start_time_seconds"),
        "the time of a file, which others change",
        "when the machine booted",
        "the node does not start anew while it runs",
        where="`/`",
        note="nothing follows from that time",
    ),
    Departure(
        ("cadvisor_version_info",),
        "cAdvisor's version",
        '`cadvisorVersion="cgwatch-…"`',
        "dashboards show it",
        note="it would be a lie",
    ),
)

_SPEC = (
    Departure(
        ("container_spec_cpu_shares",),
        "`cpu.weight` by the formula of runc before 1.3.2 and crun before 1.23: 1024 shares are shown as"
        " 998, or with newer ones as 2597",
        "exactly what Docker was asked for; else by the formula that the runtime was seen to use; the"
        " kernel's default as 1024",
        "the number that was configured; `container_spec_cpu_weight` has the raw one",
        where="v2",
        restored=True,
    ),
    Departure(
        ("container_spec_cpu_shares", "container_spec_cpu_period"),
        "0",
        "no series",
        "the root has neither",
        where="v2, `/`",
        restored=True,
    ),
    Departure(
        ("container_spec_memory_reservation_limit_bytes",),
        "`memory.min`",
        "`memory.low`",
        "runtimes write a reservation there",
        where="v2",
        restored=True,
    ),
)

_CPU = (
    Departure(
        ("container_cpu_cfs_burst_*",), "0", "`cpu.stat`", _COUNTED + " since 5.16", where="v1", restored=True
    ),
    Departure(
        ("container_cpu_load*_average_10s", "container_tasks_state"),
        "0, unless it may ask over netlink, on v1; a state `iowaiting`",
        "counted in `/proc`; no `iowaiting`",
        "the kernel tells nobody on v2, and prints that state nowhere",
        note="where it asks, it leaves out nested cgroups and tasks that can be frozen; the group is off by"
        " default",
    ),
    Departure(
        ("container_cpu_schedstat_*",),
        "0 once when a process ends while it is read",
        "never goes down",
        "a counter that falls to 0 is a reset to `rate()`",
        note="it would be to break `rate()`",
    ),
)

_MEMORY = (
    Departure(
        ("container_memory_failcnt",),
        "always 0",
        "`max` of `memory.events`",
        _COUNTED,
        where="v2",
        restored=True,
    ),
    Departure(
        ("container_memory_kernel_usage",),
        "always 0",
        "`kernel` of `memory.stat`",
        _COUNTED + " since 5.18",
        where="v2",
        restored=True,
    ),
    Departure(
        ("container_memory_max_usage_bytes",),
        "0",
        "the highest of the samples",
        "a lower bound says more",
        where="v2 before 5.19",
        restored=True,
    ),
    Departure(
        ("container_memory_failures_total",),
        "the cgroup alone for both scopes",
        '`scope="hierarchy"` has the nested cgroups, too',
        "as the label says",
        where="v1",
        restored=True,
    ),
    Departure(
        ("container_memory_events_max_total",), "0", "`memory.failcnt`", _COUNTED, where="v1", restored=True
    ),
    Departure(
        (
            "container_memory_events_high_total",
            "container_memory_pgscan_total",
            "container_memory_pgsteal_total",
        ),
        "0",
        "no series",
        _NO_ZERO,
        where="v1",
        restored=True,
    ),
    Departure(
        ("container_memory_file_dirty_bytes", "container_memory_file_writeback_bytes"),
        "0",
        "`memory.stat`",
        _SAID,
        where="v1",
        restored=True,
    ),
    Departure(
        ("container_memory_workingset_refault_*",),
        "the cgroup alone",
        "with all nested cgroups",
        "all other numbers of memory are so",
        where="v1",
        note="not read",
    ),
    Departure(
        ("container_memory_migrate",), "0", "no series", "it is no choice there", where="v2", restored=True
    ),
    Departure(
        ("container_memory_numa_pages",), "no series", "`memory.numa_stat`", _SAID, where="v2", restored=True
    ),
    Departure(("container_hugetlb_max_usage_bytes",), "0", "no series", _NO_ZERO, where="v2", restored=True),
    Departure(
        ("container_hugetlb_failcnt",),
        "of reservations alone",
        "of reservations and of pages",
        "as on v2",
        where="v1",
        note="not read apart",
    ),
    Departure(
        ("container_oom_events_total",),
        "0 without `/dev/kmsg`, for what the kernel's log leaves out, and for a container that is made anew",
        "every kill once, by the kernel's counters; a container keeps its count when it is started again",
        "that is what it is for; `cgwatch_oom_kills_total` has those of containers that are gone",
        note="it would be to lose kills",
    ),
    Departure(
        ("container_pressure_*",),
        "0",
        "from the unified hierarchy beside v1; no series without pressure stall information",
        _SAID,
        where="v1, hybrid",
        restored=True,
    ),
)

_DISK_TIMES = (
    *("container_fs_read_seconds_total", "container_fs_write_seconds_total"),
    "container_fs_io_time*_seconds_total",
)
_DISK = (
    Departure(
        _DISK_TIMES,
        "milliseconds divided by 10^9: 10^6 too small",
        "seconds",
        "as the name says",
        where="`/`",
        restored=True,
    ),
    Departure(
        (
            *("container_fs_reads_total", "container_fs_writes_total", "container_fs_sector_*"),
            *("container_fs_*_merged_total", "container_fs_io_current", *_DISK_TIMES),
        ),
        "the whole machine's numbers at each Docker container, beside its own",
        "the container's own, where the kernel keeps them; the machine's at `/`",
        "a container's series are the container's",
        note="they are at `/`",
    ),
    Departure(
        ("container_fs_*",),
        "0 for NVMe, md, mmc and loop devices in what comes from `/proc/diskstats`",
        "every whole disk",
        _COUNTED,
        note="not offered",
    ),
    Departure(
        ("container_fs_*", "container_blkio_*"),
        'devices that it finds no name for have `device=""`',
        '`device="MAJOR:MINOR"`',
        "several such devices are several series",
        note=_LOST,
    ),
    Departure(
        ("container_fs_reads*_total", "container_fs_writes*_total", "container_blkio_*"),
        "`blkio` of the root, which counts from the first throttle rule on",
        "`/proc/diskstats`; `container_blkio_device_usage_total` as cAdvisor has it",
        "it is the node, and the kernel counts all of it there",
        where="v1 since 6.9, `/`",
        note="a part of the node's I/O",
    ),
    Departure(
        ("container_fs_usage_bytes", "container_fs_limit_bytes", "container_fs_inodes_*"),
        "for Docker's containers, too, by a walk through all of their files",
        "for `/` alone",
        "the walk reads more of a disk than most containers do",
        note="not without the walk",
    ),
)

_NETWORK = (
    Departure(
        ("container_network_*",),
        "containers in one network namespace show it each; those on the host's network the host's",
        "each namespace once, under the container that made it; the host's at `/`",
        _ONCE,
        note="read once",
    ),
    Departure(
        ("container_network_udp*_usage_total",),
        "bytes to be sent as `rxqueued`, and to be read as `txqueued`",
        "as they are called",
        "the columns of `/proc/net/udp` are the other way round",
        restored=True,
    ),
    Departure(
        ("container_network_advance_tcp_stats_total",),
        "99 names, 0 for those that the kernel does not print",
        "what the kernel prints",
        _NO_ZERO,
        note="newer kernels have names that cAdvisor leaves out",
    ),
)

_PROCESS = (
    Departure(
        ("container_processes",), "the cgroup alone", "with all nested cgroups", _SUBTREE, restored=True
    ),
    Departure(
        ("container_file_descriptors", "container_sockets"),
        "the cgroup alone",
        "with all nested cgroups",
        _SUBTREE,
        note="counted together",
    ),
    Departure(
        ("container_threads", "container_threads_max"),
        "0; on v2 the processes as threads",
        "no series",
        "the root has no `pids.current`",
        where="`/`",
        restored=True,
    ),
    Departure(
        ("container_ulimits_soft",),
        "for containers of a runtime and `/`",
        "for every cgroup with processes",
        "a unit has limits as well",
        note="choose cgroups by `metrics.cgroups`",
    ),
)

_MACHINE = (
    Departure(
        ("machine_cpu_physical_cores",),
        "cores of one socket, if their ids repeat on the others",
        "cores of all sockets",
        _SAID,
        note="wrong on every machine with several",
    ),
    Departure(
        ("machine_cpu_cache_capacity_bytes", "machine_thread_siblings_count"),
        "one of the cores of a memory node that have the same id",
        'each, as `core_id="ID/cpuN"`',
        "all of them are there",
        note=_LOST,
    ),
    Departure(
        ("machine_nvm_*",),
        "0",
        "no series",
        "persistent memory in slots is a product that is gone",
        note=_NO_ZERO,
    ),
)

DEPARTURES = (*_ALL, *_ALWAYS, *_SPEC, *_CPU, *_MEMORY, *_DISK, *_NETWORK, *_PROCESS, *_MACHINE)
