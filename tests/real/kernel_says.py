"""What the page must say of a container, read from the kernel's files by other code than cgwatch's.

Only what the kernel documents is repeated here: which file, which key, which unit; on v1 and on v2.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.real.agent_process import Series

NANOSECONDS = 1_000_000_000
MICROSECONDS = 1_000_000
UNLIMITED_V1 = 1 << 62
NOT_COUNTED = ("lo", "veth", "docker", "nerdctl")
DIRECTIONS = ("receive", "transmit")
NET_DEV = {"bytes": 0, "packets": 1, "errors": 2, "packets_dropped": 3}
CPU_STAT_V2 = {
    "container_cpu_cfs_periods_total": ("nr_periods", 1),
    "container_cpu_cfs_throttled_periods_total": ("nr_throttled", 1),
    "container_cpu_cfs_throttled_seconds_total": ("throttled_usec", MICROSECONDS),
    "container_cpu_cfs_burst_periods_total": ("nr_bursts", 1),
    "container_cpu_cfs_burst_seconds_total": ("burst_usec", MICROSECONDS),
}
CPU_STAT_V1 = {
    **CPU_STAT_V2,
    "container_cpu_cfs_throttled_seconds_total": ("throttled_time", NANOSECONDS),
    "container_cpu_cfs_burst_seconds_total": ("burst_time", NANOSECONDS),
}
MEMORY_STAT_V2 = {
    "container_memory_rss": "anon",
    "container_memory_cache": "file",
    "container_memory_mapped_file": "file_mapped",
    "container_memory_total_active_file_bytes": "active_file",
    "container_memory_total_inactive_file_bytes": "inactive_file",
    "container_memory_file_dirty_bytes": "file_dirty",
    "container_memory_file_writeback_bytes": "file_writeback",
    "container_memory_kernel_usage": "kernel",
    "container_memory_pgscan_total": "pgscan",
    "container_memory_pgsteal_total": "pgsteal",
    "container_memory_workingset_refault_file_total": "workingset_refault_file",
    "container_memory_workingset_refault_anon_total": "workingset_refault_anon",
}
MEMORY_STAT_V1 = {
    "container_memory_rss": "total_rss",
    "container_memory_cache": "total_cache",
    "container_memory_swap": "total_swap",
    "container_memory_mapped_file": "total_mapped_file",
    "container_memory_total_active_file_bytes": "total_active_file",
    "container_memory_total_inactive_file_bytes": "total_inactive_file",
    "container_memory_file_dirty_bytes": "total_dirty",
    "container_memory_file_writeback_bytes": "total_writeback",
    "container_memory_workingset_refault_file_total": "total_workingset_refault_file",
    "container_memory_workingset_refault_anon_total": "total_workingset_refault_anon",
}
Says = dict[Series, float]


def hierarchies() -> dict[str, Path]:
    """Give the mount point of each v1 controller, and of the unified hierarchy as ``unified``."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, _, options = right.split()
        point = Path(left.split()[4])
        if kind == "cgroup2":
            found["unified"] = point
        elif kind == "cgroup":
            found |= dict.fromkeys(options.split(","), point)
    return found


def is_v1() -> bool:
    """Tell whether the memory controller is on a v1 hierarchy."""
    return "memory" in hierarchies()


def file_of(controller: str, cgroup: str, name: str) -> Path:
    """Give a kernel file of one cgroup, wherever its controller is mounted."""
    mounts = hierarchies()
    return mounts.get(controller, mounts["unified"]) / cgroup.lstrip("/") / name


def kernel_says(cgroup: str) -> Says:
    """Read every series that the kernel's files make, for a cgroup that has no other below it.

    v2: a controller that is not enabled for the cgroup has no files there.
    """
    if is_v1():
        said = _memory_v1(cgroup) | _cpu_v1(cgroup) | _io_v1(cgroup)
    else:
        said = _cpu_v2(cgroup)
        for mark, read in (("memory.current", _memory_v2), ("cpu.max", _cpu_limits_v2), ("io.stat", _io_v2)):
            if file_of("unified", cgroup, mark).exists():
                said |= read(cgroup)
    return said | _pressure(cgroup) | _pids(cgroup)


def _pids(cgroup: str) -> Says:
    pids = file_of("pids", cgroup, "cgroup.procs").read_text().split()
    return {
        plain("container_processes"): len(pids),
        plain("container_threads"): int(file_of("pids", cgroup, "pids.current").read_text()),
        plain("container_threads_max"): _limit(file_of("pids", cgroup, "pids.max")),
    }


def network_says(pid: int | str) -> Says:
    """Read the counters of the interfaces that a process sees, those that cAdvisor leaves out aside."""
    said: Says = {}
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
        interface, numbers = line.split(":")
        if interface.strip().startswith(NOT_COUNTED):
            continue
        for side, direction in enumerate(DIRECTIONS):
            for what, column in NET_DEV.items():
                name = f"container_network_{direction}_{what}_total"
                series = name, frozenset({("interface", interface.strip())})
                said[series] = int(numbers.split()[side * 8 + column])
    return said


def plain(name: str) -> Series:
    """Give a series without labels of its own."""
    return name, frozenset()


def keyed(path: Path) -> dict[str, int]:
    """Read a file of one key and one number a line."""
    return {key: int(value) for key, value in map(str.split, path.read_text().splitlines())}


def _limit(path: Path) -> int:
    """Read a limit; 0 stands for none, as on cAdvisor's pages."""
    text = path.read_text().strip()
    value = 0 if text == "max" else int(text)
    return value if value < UNLIMITED_V1 else 0


def _faults(own: tuple[int, int], whole: tuple[int, int]) -> Says:
    said: Says = {}
    for scope, numbers in (("container", own), ("hierarchy", whole)):
        for kind, number in zip(("pgfault", "pgmajfault"), numbers, strict=True):
            labels = frozenset({("scope", scope), ("failure_type", kind)})
            said["container_memory_failures_total", labels] = number
    return said


def _memory(usage: int, inactive: int, hits: int, numbers: dict[str, float]) -> Says:
    return {plain(name): value for name, value in numbers.items()} | {
        plain("container_memory_usage_bytes"): usage,
        plain("container_memory_working_set_bytes"): max(0, usage - inactive),
        plain("container_memory_failcnt"): hits,
        plain("container_memory_events_max_total"): hits,
    }


def _memory_v1(cgroup: str) -> Says:
    def number(name: str) -> int:
        return int(file_of("memory", cgroup, name).read_text())

    stat = keyed(file_of("memory", cgroup, "memory.stat"))
    numbers: dict[str, float] = {
        **{name: stat[key] for name, key in MEMORY_STAT_V1.items()},
        "container_memory_max_usage_bytes": number("memory.max_usage_in_bytes"),
        "container_memory_kernel_usage": number("memory.kmem.usage_in_bytes"),
    }
    for series, name in (
        ("container_spec_memory_limit_bytes", "memory.limit_in_bytes"),
        ("container_spec_memory_swap_limit_bytes", "memory.memsw.limit_in_bytes"),
        ("container_spec_memory_reservation_limit_bytes", "memory.soft_limit_in_bytes"),
    ):
        numbers[series] = _limit(file_of("memory", cgroup, name))
    usage = number("memory.usage_in_bytes")
    faults = _faults((stat["pgfault"], stat["pgmajfault"]), (stat["total_pgfault"], stat["total_pgmajfault"]))
    return faults | _memory(usage, stat["total_inactive_file"], number("memory.failcnt"), numbers)


def _memory_v2(cgroup: str) -> Says:
    stat = keyed(file_of("memory", cgroup, "memory.stat"))
    events = keyed(file_of("memory", cgroup, "memory.events"))
    numbers: dict[str, float] = {
        name: stat[key]
        for name, key in MEMORY_STAT_V2.items()
        if key in stat  # some came with a later kernel
    }
    numbers["container_memory_events_high_total"] = events["high"]
    for series, name in (
        ("container_spec_memory_limit_bytes", "memory.max"),
        ("container_spec_memory_swap_limit_bytes", "memory.swap.max"),
        ("container_spec_memory_reservation_limit_bytes", "memory.low"),
        ("container_memory_max_usage_bytes", "memory.peak"),
        ("container_memory_swap", "memory.swap.current"),
    ):
        path = file_of("memory", cgroup, name)
        if path.exists():
            numbers[series] = _limit(path)
    usage = int(file_of("memory", cgroup, "memory.current").read_text())
    faults = stat["pgfault"], stat["pgmajfault"]
    return _faults(faults, faults) | _memory(usage, stat["inactive_file"], events["max"], numbers)


def _cpu_v1(cgroup: str) -> Says:
    said: Says = {}
    for cpu, spent in enumerate(file_of("cpuacct", cgroup, "cpuacct.usage_percpu").read_text().split()):
        if int(spent):
            labels = frozenset({("cpu", f"cpu{cpu:02d}")})
            said["container_cpu_usage_seconds_total", labels] = int(spent) / NANOSECONDS
    ticks = os.sysconf("SC_CLK_TCK")
    for mode, used in keyed(file_of("cpuacct", cgroup, "cpuacct.stat")).items():
        said[plain(f"container_cpu_{mode}_seconds_total")] = used / ticks
    said[plain("container_spec_cpu_shares")] = int(file_of("cpu", cgroup, "cpu.shares").read_text())
    said[plain("container_spec_cpu_period")] = int(file_of("cpu", cgroup, "cpu.cfs_period_us").read_text())
    quota = int(file_of("cpu", cgroup, "cpu.cfs_quota_us").read_text())
    return said | _quota(quota, keyed(file_of("cpu", cgroup, "cpu.stat")), CPU_STAT_V1)


def _cpu_v2(cgroup: str) -> Says:
    stat = keyed(file_of("cpu", cgroup, "cpu.stat"))
    whole = "container_cpu_usage_seconds_total", frozenset({("cpu", "total")})
    return {
        whole: stat["usage_usec"] / MICROSECONDS,
        plain("container_cpu_user_seconds_total"): stat["user_usec"] / MICROSECONDS,
        plain("container_cpu_system_seconds_total"): stat["system_usec"] / MICROSECONDS,
    }


def _cpu_limits_v2(cgroup: str) -> Says:
    stat = keyed(file_of("cpu", cgroup, "cpu.stat"))
    quota, period = file_of("cpu", cgroup, "cpu.max").read_text().split()
    weight = int(file_of("cpu", cgroup, "cpu.weight").read_text())
    return _quota(-1 if quota == "max" else int(quota), stat, CPU_STAT_V2) | {
        # The kernel's default, or what the containers of these tests ask Docker for.
        plain("container_spec_cpu_shares"): 1024 if weight == 100 else 512,
        plain("container_spec_cpu_period"): int(period),
    }


def _quota(quota: int, stat: dict[str, int], keys: dict[str, tuple[str, int]]) -> Says:
    if quota < 0:
        return {}
    said: Says = {
        plain(name): stat[key] / unit if unit > 1 else stat[key]
        for name, (key, unit) in keys.items()
        if key in stat  # bursts came with 5.14
    }
    return said | {plain("container_spec_cpu_quota"): quota}


def device_path(numbers: str) -> str:
    """Give the path of the block device ``MAJOR:MINOR``."""
    lines = Path(f"/sys/dev/block/{numbers}/uevent").read_text().splitlines()
    return next(
        f"/dev/{name}" for key, _, name in (line.partition("=") for line in lines) if key == "DEVNAME"
    )


def _device(numbers: str, moved: dict[str, int], requests: dict[str, int]) -> Says:
    path = device_path(numbers)
    device = frozenset({("device", path)})
    major, minor = numbers.split(":")
    said: Says = {
        ("container_fs_reads_bytes_total", device): moved["Read"],
        ("container_fs_writes_bytes_total", device): moved["Write"],
        ("container_fs_reads_total", device): requests["Read"],
        ("container_fs_writes_total", device): requests["Write"],
    }
    for operation, number in moved.items():
        labels = {("device", path), ("major", major), ("minor", minor), ("operation", operation)}
        said["container_blkio_device_usage_total", frozenset(labels)] = number
    return said


def _io_v1(cgroup: str) -> Says:
    """Read what the throttle layer counted: a disk under BFQ would be counted there, and has none here."""
    moved, requests = (
        operations(file_of("blkio", cgroup, f"blkio.throttle.{name}_recursive"))
        for name in ("io_service_bytes", "io_serviced")
    )
    said: Says = {}
    for numbers, done in moved.items():
        said |= _device(numbers, done, requests[numbers])
    return said


def operations(path: Path) -> dict[str, dict[str, int]]:
    """Read a file of blkio: device -> operation -> number."""
    found: dict[str, dict[str, int]] = {}
    for words in map(str.split, path.read_text().splitlines()):
        if len(words) == 3:
            found.setdefault(words[0], {})[words[1]] = int(words[2])
    return found


def _io_v2(cgroup: str) -> Says:
    said: Says = {}
    for line in file_of("io", cgroup, "io.stat").read_text().splitlines():
        numbers, *pairs = line.split()
        if pairs:
            stat = {key: int(value) for key, value in (pair.split("=") for pair in pairs)}
            moved = {"Read": stat["rbytes"], "Write": stat["wbytes"]}
            said |= _device(numbers, moved, {"Read": stat["rios"], "Write": stat["wios"]})
    return said


def _pressure(cgroup: str) -> Says:
    """Read the pressure files of the unified hierarchy; a kernel without has none."""
    said: Says = {}
    for resource in ("cpu", "memory", "io"):
        path = hierarchies()["unified"] / cgroup.lstrip("/") / f"{resource}.pressure"
        if path.exists():
            for line in path.read_text().splitlines():
                share, *_, total = line.split()
                word = {"some": "waiting", "full": "stalled"}[share]
                series = plain(f"container_pressure_{resource}_{word}_seconds_total")
                said[series] = int(total.removeprefix("total=")) / MICROSECONDS
    return said
