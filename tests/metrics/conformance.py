"""cAdvisor's families (v0.60) of the groups that cgwatch has, as data: what each is called, and who has it.

``v1`` and ``v2`` say which cgroups have the family on that version, by what the captured kernel files of the
cgroup say; ``departs`` says what cAdvisor does otherwise. ``LEFT_OUT`` are the families of these groups that
cgwatch does not have, each for its reason: together, the two tables are all of cAdvisor's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct


class Captured(Struct, frozen=True):
    """One cgroup of a captured tree: its files in all hierarchies, and the network that is its own."""

    path: str
    directories: tuple[Path, ...]
    interfaces: tuple[str, ...]
    """cAdvisor shows them all but lo and the ends of other namespaces' cables."""

    def has(self, name: str) -> bool:
        """Whether the kernel gave this file."""
        return any((directory / name).exists() for directory in self.directories)

    def text(self, name: str) -> str:
        """The file's text, empty without the file."""
        found = [directory / name for directory in self.directories if (directory / name).exists()]
        return found[0].read_text() if found else ""


Rule: TypeAlias = Callable[[Captured], bool]


class Row(Struct, frozen=True):
    """One family."""

    name: str
    type: str
    labels: tuple[str, ...]
    """Beyond the container's own."""
    v1: Rule
    v2: Rule
    departs: str = ""


def each(_cgroup: Captured) -> bool:
    """Every cgroup has it."""
    return True


def none(_cgroup: Captured) -> bool:
    """No cgroup has it: the kernel does not say."""
    return False


def file(name: str) -> Rule:
    """The cgroups that have this kernel file."""
    return lambda cgroup: cgroup.has(name)


def root_or(name: str) -> Rule:
    """The root, for which the machine is asked, and the cgroups that have this kernel file."""
    return lambda cgroup: cgroup.path == "/" or cgroup.has(name)


def key(name: str, word: str) -> Rule:
    """The cgroups whose kernel file has this key."""
    return lambda cgroup: re.search(rf"^{word} ", cgroup.text(name), re.MULTILINE) is not None


def not_zero(name: str, word: str) -> Rule:
    """The cgroups whose kernel file has a number other than 0 after this word."""
    return lambda cgroup: re.search(rf"^{word}[1-9]", cgroup.text(name), re.MULTILINE) is not None


def quota(cgroup: Captured) -> bool:
    """The cgroups with a CPU quota of their own."""
    of_v1, of_v2 = cgroup.text("cpu.cfs_quota_us").strip(), cgroup.text("cpu.max")
    return of_v1 not in {"", "-1"} or (of_v2 != "" and not of_v2.startswith("max"))


def device(name: str) -> Rule:
    """The cgroups whose kernel file has a line for a device."""
    return lambda cgroup: re.search(r"^\d+:\d+ \S", cgroup.text(name), re.MULTILINE) is not None


def network(cgroup: Captured) -> bool:
    """The cgroups with interfaces of their own; the host's are the root's."""
    return bool(cgroup.interfaces)


COUNTER, GAUGE = "counter", "gauge"
_ZERO_V1 = "0 on v1"
_ZERO_V2 = "0 on v2"
_ZERO_ROOT = "0 for the root of v2"


def _spec() -> tuple[Row, ...]:
    return (
        Row("container_spec_cpu_period", GAUGE, (), file("cpu.cfs_period_us"), file("cpu.max"), _ZERO_ROOT),
        Row("container_spec_cpu_quota", GAUGE, (), quota, quota),
        Row("container_spec_cpu_shares", GAUGE, (), file("cpu.shares"), file("cpu.weight"), _ZERO_ROOT),
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
        Row(f"{cfs}_burst_periods_total", COUNTER, (), quota, quota, _ZERO_V1),
        Row(f"{cfs}_burst_seconds_total", COUNTER, (), quota, quota, _ZERO_V1),
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
        Row("container_memory_failcnt", COUNTER, (), file("memory.failcnt"), events, _ZERO_V2),
        Row(
            "container_memory_kernel_usage",
            GAUGE,
            (),
            file("memory.kmem.usage_in_bytes"),
            key("memory.stat", "kernel"),
            _ZERO_V2,
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
        Row("container_memory_events_high_total", COUNTER, (), none, events, f"{_ZERO_V1}, {_ZERO_ROOT}"),
        Row(
            "container_memory_events_max_total",
            COUNTER,
            (),
            file("memory.failcnt"),
            events,
            f"{_ZERO_V1}, {_ZERO_ROOT}",
        ),
        stat("file_dirty_bytes", GAUGE, "total_dirty", "file_dirty", _ZERO_V1),
        stat("file_writeback_bytes", GAUGE, "total_writeback", "file_writeback", _ZERO_V1),
        stat("pgscan_total", COUNTER, "", "pgscan", _ZERO_V1),
        stat("pgsteal_total", COUNTER, "", "pgsteal", _ZERO_V1),
        *(
            stat(f"{word}_total", COUNTER, f"total_{word}", word, _ZERO_V1)
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

CONTAINER_ROWS: tuple[Row, ...] = (
    Row("container_last_seen", GAUGE, (), each, each, "the time of the scrape"),
    Row("container_creation_time_seconds", GAUGE, (), each, each, "whole seconds"),
    Row("container_start_time_seconds", GAUGE, (), each, each, "whole seconds"),
    Row("container_health_state", GAUGE, (), each, each),
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

NODE_ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("container_scrape_error", GAUGE, ()),
    ("machine_scrape_error", GAUGE, ()),
    (
        "cadvisor_version_info",
        GAUGE,
        ("kernelVersion", "osVersion", "dockerVersion", "cadvisorVersion", "cadvisorRevision"),
    ),
    *(
        (f"machine_{what}", GAUGE, _OF_THE_NODE)
        for what in (
            *("cpu_cores", "cpu_physical_cores", "cpu_sockets", "cpu_books", "cpu_drawers"),
            *("memory_bytes", "swap_bytes"),
        )
    ),
)
"""Once a page: name, type, labels."""

_CFQ = "counted by the CFQ scheduler, which went with kernel 5.0; what cAdvisor shows since is the host's"
_NVM = "persistent memory in a machine's slots, a product that is gone"
_DIMM = "what is in a machine's slots: node_exporter's edac collector has it"
LEFT_OUT: dict[str, str] = {
    "container_fs_sector_reads_total": _CFQ,
    "container_fs_sector_writes_total": _CFQ,
    "container_fs_reads_merged_total": _CFQ,
    "container_fs_writes_merged_total": _CFQ,
    "container_fs_read_seconds_total": _CFQ,
    "container_fs_write_seconds_total": _CFQ,
    "container_fs_io_current": _CFQ,
    "container_fs_io_time_seconds_total": _CFQ,
    "container_fs_io_time_weighted_seconds_total": _CFQ,
    "container_fs_io_cost_usage_seconds_total": "of the io.cost controller, not read yet",
    "container_fs_io_cost_wait_seconds_total": "of the io.cost controller, not read yet",
    "container_fs_io_cost_indebt_seconds_total": "of the io.cost controller, not read yet",
    "container_fs_io_cost_indelay_seconds_total": "of the io.cost controller, not read yet",
    "container_file_descriptors": "a directory to list for each process, not read yet",
    "container_sockets": "a link to read for each descriptor of each process, not read yet",
    "container_ulimits_soft": "of one process, not read yet",
    "machine_dimm_count": _DIMM,
    "machine_dimm_capacity_bytes": _DIMM,
    "machine_nvm_capacity": _NVM,
    "machine_nvm_avg_power_budget_watts": _NVM,
}
